"""``lit-dist``: the words of a command line, and what becomes of errors."""

import gc
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from lit_dist.cli.fit_help import fit_help
from lit_dist.cli.overview import COMMANDS, LIGHTNINGS, overview, versions
from lit_dist.utils.atomic_write import kind_of
from lit_dist.utils.errors import InputError
from lit_dist.utils.mistakes import mistake

_LIGHTNING = "lightning.pytorch.utilities.rank_zero"
"""The logger of what Lightning says once, whatever the number of processes."""

_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""What a shell gives in the place of a file, such as <(command): it ends when the command does."""


def main(args: list[str] | None = None) -> None:
    """Run a command; what the user can mend ends in a message without a traceback, and exit status 1.

    Args:
        args: The command's words; those of the process by default.
    """
    # Lightning itself uses a class that torch is about to rename; the user can do nothing about it.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
    # Each command writes into a folder of its own, so this is always so when a checkpoint is used.
    warnings.filterwarnings("ignore", message="The dirpath has changed from", category=UserWarning)
    # A test needs no state of the callback that only a fit has.
    warnings.filterwarnings(
        "ignore", message=r"(?s).*add the following callbacks: \['RunCheckpoint'\]", category=UserWarning
    )
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty", category=UserWarning)
    # Names in a script that the figures' font lacks are boxes in a PNG; the SVG and the report have them as text.
    warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
    logging.getLogger(_LIGHTNING).addFilter(_is_no_advertisement)
    os.environ.setdefault("WANDB_CONSOLE", "off")  # what a command prints may name files, and they patients
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its error reports go out only if the user wants it
    try:
        sys.argv[1:] = [_shipped(word) for word in (sys.argv[1:] if args is None else args)]
        _check_files(sys.argv[1:])
        command = _command(sys.argv[1:])
        if args is None:
            gc.freeze()  # what this process has imported stays, and is not searched for garbage again and again
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_unread():
            raise
        sys.exit(141)  # as if SIGPIPE had ended it
    except SystemExit as end:
        if type(end).__name__ != "SIGTERMException":  # Lightning's, which not every command imports
            raise
        print("lit-dist: told to end (SIGTERM); the state is saved, and --resume continues from it", file=sys.stderr)
        sys.exit(143)  # as if the signal had ended it
    except Exception as error:
        message = mistake(error)
        if message is None:
            raise
        print(f"lit-dist: {message}", file=sys.stderr)
        sys.exit(1)


def _is_unread() -> bool:
    """Whether nobody reads the output any more, such as ``head`` that has enough of it; then no more is written."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    unread = any(state & select.POLLERR for _, state in output.poll(0))
    if unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return unread


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("💡")  # with which Lightning recommends its maker's services


def _command(words: list[str]) -> Callable[[], object]:
    """What the words ask for, importing no more than it takes."""
    if words == ["--version"]:
        return lambda: print(versions())
    if words in ([], ["-h"], ["--help"]):
        print(overview(), file=sys.stdout if words else sys.stderr)
        sys.exit(0 if words else 1)
    if words[0] == "--print-completion":
        return lambda: import_module("lit_dist.cli.completion").main(words[1:])
    if words[0] in COMMANDS and words[0] not in LIGHTNINGS:
        return partial(import_module(f"lit_dist.cli.{words[0]}").main, words[1:])
    if words[0] == "predict" and _names_records(words[1:]):
        return partial(import_module("lit_dist.cli.predict").main, words[1:])
    if words[0] in LIGHTNINGS and {"-h", "--help"} & set(words):
        return lambda: print(fit_help(words[0]))
    sys.argv[1:] = ["--help" if word == "--help-all" else word for word in words]
    others = [name for name in COMMANDS if name not in LIGHTNINGS]
    return partial(import_module("lit_dist.runs.lightning_cli").run, others=others)


def _names_records(words: list[str]) -> bool:
    """Whether the words of ``predict`` name a run's folder, or new records; Lightning's own command takes neither."""
    named = any(word.partition("=")[0] in ("--images", "--table") for word in words)
    return named or bool(words and not words[0].startswith("-"))


def _check_files(words: list[str]) -> None:
    """Refuse what no option takes, a pipe, a socket or a device, and a configuration that is not text."""
    pairs = [word.split("=", 1) for word in words if "=" in word] + list(map(list, pairwise(words)))
    for option, name in pairs:
        if kind := _special(name):
            raise InputError(f"{option} {name}: that is {kind}; give a file or a folder")
        # os.path, since a pathlib.Path does not take settings as JSON, which are too long for a name.
        if option in ("--config", "-c", "--model", "--data", "--trainer") and os.path.isfile(name):
            try:
                Path(name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{name} is not text, so it cannot be a configuration") from None
            _check_settings(Path(name))


def _check_settings(path: Path) -> None:
    """Refuse pipes, sockets and devices among the settings of a file: a parser would wait for some without end."""
    from lit_dist.utils.yaml_text import read_yaml, texts  # not every command needs it

    tree = None
    with suppress(InputError):  # the parser says what is wrong with it
        tree = read_yaml(path)
    for text in texts(tree):
        for place in (text, os.path.join(path.parent, text)):
            if kind := _special(place):
                raise InputError(f"{path} names {place}, which is {kind}: give a file or a folder")


def _special(name: str) -> str | None:
    kind = kind_of(name)
    return None if kind == "a folder" or name.startswith(_OPEN) else kind


def _shipped(word: str) -> str:
    """Find a configuration that comes with the package, where the working folder has none of that name."""
    option, equals, name = word.rpartition("=")
    path = Path(name)
    if path.suffix != ".yaml" or path.parts[0] != "configs" or path.exists():
        return word
    shipped = Path(str(files("lit_dist"))) / path
    return f"{option}{equals}{shipped}" if shipped.exists() else word
