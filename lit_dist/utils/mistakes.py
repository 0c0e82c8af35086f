"""Which errors come from what the user gave or has, and the sentence that each ends a command with."""

import re
from collections.abc import Iterator
from types import TracebackType

from lit_dist.utils.errors import InputError
from lit_dist.utils.extras import MissingExtraError

_WORKER = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)|terminated abruptly")
_PACKAGE = re.compile(r"Requirement '([\w.-]+)[^']*' not met|Neither `(tensorboard)`")
_MEMORY = re.compile(r"can't allocate memory|out of memory|Unable to allocate", re.IGNORECASE)
_SMALL = re.compile(r"Output size is too small|Kernel size can't be greater than actual input size")
_OF_A_WORKER = re.compile(r"Caught \w+ in DataLoader worker process.*\n(?:\S*\.)?(\w+): (.*)\Z", re.DOTALL)
_LESS = "take a smaller batch_size, fewer num_workers, smaller images or a smaller network"


def mistake(error: BaseException | None) -> str | None:
    """What the user can mend, in one sentence; None if an error does not come from that.

    Args:
        error: The error that has ended a command. What it was raised from counts, too: a parser wraps what the
            constructor of a class raises.
    """
    while error is not None:
        text = _sentence(error)
        if text is not None:
            return text
        error = error.__cause__ or error.__context__
    return None


def root_of(error: BaseException) -> BaseException:
    """The error that others were raised from."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0]


def _sentence(error: BaseException) -> str | None:
    kind, text = type(error), str(error)
    if isinstance(error, InputError):
        found = _OF_A_WORKER.search(text)  # torch puts a worker's whole traceback into the message
        return found[2].strip() if found else text
    if isinstance(error, MissingExtraError):
        return text
    # Classes by their names, since not every command imports the libraries.
    if kind.__name__ == "MisconfigurationException":
        return text
    if kind.__module__.startswith("wandb.") and kind.__name__ == "UsageError":
        return f"W&B: {text} (or set WANDB_MODE=offline to keep the run on this machine)"
    if isinstance(error, ImportError) and (found := _PACKAGE.search(text)):
        name = found[1] or found[2]
        return f"the package {name} is not installed: pip install {name}, or leave out what needs it"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if "Expected more than 1 value per channel when training" in text:
        return (
            "a batch has only one image, of which batch normalisation learns nothing: set batch_size to 2 or more, and"
            " drop_last where a loader leaves one over"
        )
    if _SMALL.search(text):
        return f"the images are too small for the network ({first_line(error)}): take a greater size or another network"
    if _WORKER.search(text):
        return f"a worker process was ended from outside, most likely since there was no memory left: {_LESS}"
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        line = next((line.strip() for line in text.splitlines() if _MEMORY.search(line)), "none was left")
        return f"there is not enough memory ({line}): {_LESS}"
    if isinstance(error, RecursionError) and _raised_in(error, ("os", "posixpath", "pathlib", "fsspec", "yaml")):
        return "a path or a setting is nested too deeply"
    if isinstance(error, ValueError | RuntimeError) and _raised_in(error, ("lightning",)):
        return " ".join(text.split())  # it has looked at what it was given, and says what is wrong
    if isinstance(error, ValueError | TypeError | ArithmeticError | RuntimeError):
        maker = _optimizer(error.__traceback__)
        return f"{maker} does not take its settings: {first_line(error)}" if maker else None
    return None


def _optimizer(traceback: TracebackType | None) -> str | None:
    """The class of the optimizer or schedule, if the error was raised in making one, or in torch's own step of one."""
    *_, last = [None, *_frames(traceback)]
    if last is None:
        return None
    owner, function, module = last
    if not any(base.__module__.startswith("torch.optim.") for base in type(owner).__mro__):
        return None
    return type(owner).__name__ if function == "__init__" or module.startswith("torch.optim.") else None


def _raised_in(error: BaseException, packages: tuple[str, ...]) -> bool:
    """Whether the line that raised an error is in one of some packages."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] in packages


def _frames(traceback: TracebackType | None) -> Iterator[tuple[object, str, str]]:
    """Of the frames of methods, the object, the method's name and its module; the outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        if "self" in frame.f_locals:
            yield frame.f_locals["self"], frame.f_code.co_name, str(frame.f_globals.get("__name__"))
        traceback = traceback.tb_next
