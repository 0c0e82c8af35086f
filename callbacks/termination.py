"""Termination: notes that the process was told to end, until there is a good moment for it."""

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lit_dist.utils.lightning_internals import end_auto_requeue


class Termination:
    """Listens for SIGTERM, and for the signal with which SLURM announces a job's end, in place of Lightning.

    Lightning's own handlers start a collective operation from within the signal, which may meet another one, and leave
    a checkpoint in the working folder, with which any later run would begin.
    """

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._handlers: dict[int, Any] = {}
        self._requeue: int | None = None  # the signal of SLURM

    def take_over(self, trainer: Trainer) -> None:
        """Keep Lightning from listening for the signal of SLURM, before it does."""
        self._requeue = end_auto_requeue(trainer) or self._requeue

    def listen(self) -> None:
        """Begin to listen; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in {signal.SIGTERM, self._requeue or signal.SIGTERM} - self._handlers.keys():
                self._handlers[number] = signal.signal(number, self._note)

    def stop(self) -> None:
        """Give the signals back to who listened before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers, self._told = {}, set()

    def told(self, trainer: Trainer) -> bool:
        """Whether any of the processes was told to end. To be called by all of them."""
        return trainer.strategy.reduce_boolean_decision(bool(self._told), all=False)

    def requeue(self, trainer: Trainer) -> None:
        """Put the job of SLURM back into the queue, if that was announced. To be called by all processes."""
        announced = trainer.strategy.reduce_boolean_decision(self._requeue in self._told, all=False)
        if announced and trainer.is_global_zero:
            job = os.environ.get("SLURM_JOB_ID", "")
            if "SLURM_ARRAY_JOB_ID" in os.environ:
                job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
            try:
                subprocess.run(["scontrol", "requeue", job], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                rank_zero_warn(
                    f"The state is saved, but SLURM's job {job} could not be put back into the queue: {error}"
                )
            else:
                rank_zero_info(f"SLURM's job {job} is in the queue again.")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._told.add(number)
