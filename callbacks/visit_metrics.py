"""VisitMetrics: which of the logged values belong to a visit."""

import math

from lightning.pytorch import Trainer

Metrics = dict[str, float | None]
OF_TRANSFER = ("visit", "cycle", "site")
"""What the transfer callback logs itself."""


class VisitMetrics:
    """Tells the values that were logged in training from those of validation.

    Lightning keeps the values of the last validation until the next one, so they would pass for those of every visit in
    between.
    """

    def __init__(self) -> None:
        self._before: set[str] = set()
        self._of_validation: set[str] = set()
        self._validated = False

    def validation_starts(self, trainer: Trainer) -> None:
        """To be called when a validation starts."""
        self._before = set(trainer.callback_metrics)

    def validation_ends(self, trainer: Trainer) -> None:
        """To be called when a validation ends."""
        self._of_validation |= set(trainer.callback_metrics) - self._before
        self._validated = True

    def of_training(self, trainer: Trainer) -> Metrics:
        """What the module has logged in training."""
        self._validated = False
        return _values(trainer, set(trainer.callback_metrics) - self._of_validation - set(OF_TRANSFER))

    def of_validation(self, trainer: Trainer) -> Metrics:
        """What it has logged in a validation since ``of_training`` was called last; nothing if there was none."""
        return _values(trainer, self._of_validation) if self._validated else {}


def _values(trainer: Trainer, names: set[str]) -> Metrics:
    values = {name: float(value) for name, value in trainer.callback_metrics.items() if name in names}
    return {name: value if math.isfinite(value) else None for name, value in sorted(values.items())}
