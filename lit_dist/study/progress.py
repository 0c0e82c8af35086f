"""RunProgress: says how far a run of a study is, for those who watch it from another process."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

FILE = "progress"


class RunProgress(Callback):
    """Writes the number of optimizer steps into a file, not more often than once in a while.

    Args:
        folder: The run's folder.
        facts: What the run is; the loggers get it.
        seconds: The least time between two writes.
    """

    takes_part = False

    def __init__(self, folder: str, facts: dict[str, Any], seconds: float = 1.0) -> None:
        self.path = Path(folder) / FILE
        self.facts = facts
        self.seconds = seconds
        self._written = 0.0

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            logger.log_hyperparams(self.facts)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._written > self.seconds and trainer.is_global_zero:
            self.path.write_text(str(trainer.global_step))
            self._written = time.monotonic()


def steps_done(folder: Path) -> int:
    """The number of steps of a run that is under way; 0 if it is not known."""
    try:
        return int((folder / FILE).read_text())
    except (OSError, ValueError):
        return 0
