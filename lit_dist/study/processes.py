"""Does the runs of a study, each in a process of its own, several at a time."""

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, TaskID

from lit_dist.checkpoints.run_files import check_run
from lit_dist.checkpoints.run_lock import BusyError, held
from lit_dist.study.continued import LOG
from lit_dist.study.execute import FIT, execute, read_result, result_path
from lit_dist.study.progress import steps_done
from lit_dist.study.run import Run, run_path
from lit_dist.utils.child_processes import end_with_the_parent, prepared
from lit_dist.utils.errors import InputError
from lit_dist.utils.progress import Progressing, progressing

_ELSEWHERE = 75  # the exit status for a run that another process has, or has just finished
_TICK = 0.2  # seconds between two looks at the processes


@dataclass(slots=True)
class _Child:
    process: BaseProcess
    slot: int
    task: TaskID
    start: float = field(default_factory=time.monotonic)


class Workers:
    """Does what is missing of a study, so many runs at a time.

    A run that another process has, on this machine or another one with the same folder, is left to it and waited for.
    """

    def __init__(self, study: Path, runs: Sequence[Run], jobs: int) -> None:
        self.study = study
        self.runs = {run.name: run for run in runs}
        self.jobs = jobs
        self.failed: dict[str, str] = {}
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._children: dict[str, _Child] = {}
        self._elsewhere: set[str] = set()
        self._steps = sum(max(run.steps, 1) for run in runs)
        self._processes = prepared("lit_dist.study.execute")

    def work(self) -> dict[str, str]:
        """Do all runs that are not finished.

        Returns:
            Why runs failed, by their names; their logs say more.
        """
        with progressing("all runs", self._steps, self._done(), self._console) as shown, self._ended():
            while waiting := [name for name in self.runs if not self._settled(name)]:
                for name in waiting:
                    self._start(name, shown.bar)
                self._wait()
                self._look(shown)
                shown.update(self._done())
        return self.failed

    def _wait(self) -> None:
        """Wait until a child ends, or for a little while."""
        if self._children:
            wait([child.process.sentinel for child in self._children.values()], _TICK)
        else:
            time.sleep(_TICK)

    def _settled(self, name: str) -> bool:
        return name in self.failed or (name not in self._children and result_path(self.study, name).exists())

    def _start(self, name: str, bar: Progress) -> None:
        run = self.runs[name]
        if name in self._children or len(self._children) >= self.jobs:
            return
        lost = [member for member in run.members if member in self.failed]
        if lost:
            self._fail(name, f"it needs {lost[0]}, which failed")
            return
        if not all(self._settled(member) for member in run.members):
            return
        folder = run_path(self.study, name)
        try:
            with held(folder):
                check_run(folder / FIT)
        except BusyError:
            self._say_who_has(name)
            return
        except InputError as error:
            self._fail(name, str(error))
            return
        slot = min(set(range(self.jobs)) - {child.slot for child in self._children.values()})
        process = self._processes.Process(target=_child, args=(self.study, name, self.jobs, self._gpu(slot)), name=name)
        process.start()
        task = bar.add_task(f"  {name}", total=max(run.steps, 1), left="")
        self._children[name] = _Child(process, slot, task)

    def _say_who_has(self, name: str) -> None:
        if name not in self._elsewhere:
            self._elsewhere.add(name)
            self._console.print(f"Another process has {name}; it is waited for.")

    def _gpu(self, slot: int) -> str | None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        return gpus[slot % len(gpus)] if gpus else None

    def _look(self, shown: Progressing) -> None:
        for name, child in list(self._children.items()):
            if child.process.is_alive():
                shown.bar.update(child.task, completed=steps_done(run_path(self.study, name)))
                continue
            child.process.join()
            shown.bar.remove_task(child.task)
            del self._children[name]
            if child.process.exitcode == _ELSEWHERE:  # another machine was quicker; it is waited for
                continue
            seconds = time.monotonic() - child.start
            if result_path(self.study, name).exists():
                left = shown.left.words(self._done())
                self._console.print(f"done in {seconds:.0f} s: {name} ({self._finished()} runs; {left})")
                for line in read_result(self.study, name).get("ended") or []:
                    self._console.print(f"  {line}")
            else:
                self._fail(name, _why(child.process.exitcode, run_path(self.study, name) / LOG))

    def _fail(self, name: str, why: str) -> None:
        self.failed[name] = why
        self._console.print(f"FAILED: {name}: {why}")

    def _finished(self) -> str:
        return f"{sum(map(self._settled, self.runs))} of {len(self.runs)}"

    def _done(self) -> int:
        """The steps that were made, by earlier commands, too."""
        return sum(
            max(run.steps, 1) if self._settled(name) else min(steps_done(run_path(self.study, name)), run.steps)
            for name, run in self.runs.items()
        )

    @contextlib.contextmanager
    def _ended(self) -> Iterator[None]:
        """End the children when this process is told to end."""
        try:
            yield
        finally:
            for child in self._children.values():
                child.process.terminate()
            for child in self._children.values():
                child.process.join()


def _why(exitcode: int | None, log: Path) -> str:
    """Why a run has ended without a result: a signal, or what its log says last."""
    if exitcode is not None and exitcode < 0:
        return f"it was ended by the signal {signal.Signals(-exitcode).name} ({log})"
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"{lines[-1]} ({log})" if lines else f"exit status {exitcode} ({log})"


def _child(study: Path, name: str, jobs: int, gpu: str | None) -> None:
    """Be the process of one run."""
    with (run_path(study, name) / LOG).open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    end_with_the_parent()
    gc.freeze()  # what was there before the fork stays, and its memory stays shared
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything has asked for one
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    try:
        if not execute(study, name):
            sys.exit(_ELSEWHERE)
    except BusyError:
        sys.exit(_ELSEWHERE)
    except InputError as error:
        sys.exit(f"lit-dist: {error}")
