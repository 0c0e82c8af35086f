"""Termination: notes that the process was told to end, until there is a good moment for it."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer


class Termination:
    """Listens for SIGTERM in place of Lightning.

    Lightning's own handler starts a collective operation from within the signal, which may meet another one.
    """

    def __init__(self) -> None:
        self._told = False
        self._handler: Any = None

    def listen(self) -> None:
        """Begin to listen; only the main thread can."""
        self._told = False
        if threading.current_thread() is threading.main_thread() and self._handler is None:
            self._handler = signal.signal(signal.SIGTERM, self._note)

    def stop(self) -> None:
        """Give the signal back to who listened before."""
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None

    def told(self, trainer: Trainer) -> bool:
        """Whether any of the processes was told to end. To be called by all of them."""
        return trainer.strategy.reduce_boolean_decision(self._told, all=False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._told = True
