"""One writer a run: who trains in a run's folder holds it, from before the first file is read until the end.

The lock is the operating system's, so a process that is killed lets go of it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from lit_dist.checkpoints.run_files import check_run, check_trainer_folders
from lit_dist.checkpoints.run_folder import SETTINGS, SIGNATURE, SPLITS, run_folder
from lit_dist.utils.atomic_write import not_written
from lit_dist.utils.errors import InputError

if TYPE_CHECKING:  # imported where it is used: checking a run needs no trainer
    from lightning.pytorch import Trainer

LOCK = "lock"
_HOLDER = "lock.json"  # a file of its own: taking a lock may empty the lock's file
_BEFORE_THE_FIRST_STEP = {LOCK, _HOLDER, SETTINGS, SPLITS, SIGNATURE}
_ENDING = 30.0  # seconds in which the loaders' workers end after a process that was killed
_TICK = 0.1


class BusyError(InputError):
    """Another process trains in the folder."""


@dataclass(slots=True)
class _Hold:
    lock: FileLock | None  # None: the process that started this one holds it
    owner: object
    times: int = 0


_holds: dict[Path, _Hold] = {}


@contextmanager
def held(folder: Path, patience: float = 0.0, owner: object = None) -> Iterator[None]:
    """Hold a run's folder.

    Args:
        folder: The folder, which is made if there is none.
        patience: How long to wait for another process to let go of it, in seconds.
        owner: The trainer that asks; it may ask several times, and where the command that runs it holds the folder.

    Raises:
        BusyError: If somebody else holds it; nothing was changed.
        InputError: If the lock, or a file that a run leaves in its folder, cannot be written.
    """
    folder = folder.resolve()  # the working folder may be another one at the end
    mine = _holds.get(folder)
    if mine is None:
        check_run(folder)
        mine = _holds[folder] = _Hold(_acquire(folder, patience), owner)
    elif owner is None or mine.owner not in (None, owner):
        raise _busy(folder, _holder(folder))
    mine.times += 1
    try:
        yield
    finally:
        mine.times -= 1
        if not mine.times:
            del _holds[folder]
            if mine.lock is not None:
                with suppress(OSError):
                    (folder / _HOLDER).unlink(missing_ok=True)
                mine.lock.release()


def hold_new(trainer: "Trainer", stack: ExitStack, patience: float = 0.0) -> None:
    """Hold the folder of a run that begins, until the stack is closed; to be called by the trainer's first process.

    Raises:
        BusyError: If another run has the folder.
    """
    from lightning.pytorch.loggers import CSVLogger

    folder = run_folder(trainer)
    if not folder.exists() or not any(folder.iterdir()):
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):  # it warns of a folder that has files already, such as the lock
                _ = logger.experiment
    stack.enter_context(held(folder, patience))


def remove_unbegun(folder: Path, failed: type[BaseException] | None, *_: object) -> None:
    """Remove the folder of a run that failed before its first step, or that nothing was written into.

    As ``ExitStack.push`` takes it, after the folder; it must not be held any more.
    """
    with suppress(OSError):
        files = list(folder.iterdir())
        if failed and {file.name for file in files} <= _BEFORE_THE_FIRST_STEP:
            for file in files:
                file.unlink()
        folder.rmdir()


class FitLock:
    """Holds the folder of a trainer's run for one fit. Of several processes the first one does."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def take(self, trainer: "Trainer") -> None:
        """Hold the folder. To be called by every process, before anything in it is read.

        Raises:
            BusyError: In every process, if another run holds it.
        """
        self.give_back()
        folder = run_folder(trainer)
        refusal = ""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            try:
                check_trainer_folders(trainer, folder)
                self._held.enter_context(held(folder, owner=trainer))
            except InputError as error:
                refusal = str(error)
        refusal = trainer.strategy.broadcast(refusal)
        if refusal:
            raise BusyError(refusal)

    def give_back(self) -> None:
        """Release the folder, if it is held."""
        self._held.close()


def _acquire(folder: Path, patience: float) -> FileLock | None:
    start = time.monotonic()
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            holder = _holder(folder)
            here = holder.get("host") == socket.gethostname()
            if here and holder.get("pid") == os.getppid():
                return None  # one of a run's own processes
            if time.monotonic() - start >= max(patience, _ENDING if here and not _lives(holder["pid"]) else 0.0):
                raise _busy(folder, holder) from None
            time.sleep(_TICK)
        except OSError as error:
            raise not_written(folder / LOCK, error) from None
        else:
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            with suppress(OSError):  # it only serves a message
                text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since})
                (folder / _HOLDER).write_text(text, encoding="utf-8")
            return lock


def _holder(folder: Path) -> Mapping[str, Any]:
    """Who holds a folder; nothing, if that is not known."""
    try:
        told = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        return {"host": str(told["host"]), "pid": int(told["pid"]), "since": str(told["since"])}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _busy(folder: Path, holder: Mapping[str, Any]) -> BusyError:
    who = f"process {holder['pid']} on {holder['host']} since {holder['since']}" if holder else "another process"
    return BusyError(
        f"the run in {folder} is held by {who}: wait until it has ended, or end it (a federation's job: abort it);"
        " nothing was changed"
    )


def _lives(pid: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 ends the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
