"""VisitMetrics: which of the logged values belong to a visit."""

import math
from collections.abc import Collection

from lightning.pytorch import Trainer

Metrics = dict[str, float | None]
OF_TRANSFER = ("visit", "cycle", "site")
"""What the transfer callback logs itself."""


class VisitMetrics:
    """Tells the values that were logged in training from those of validation.

    Lightning keeps the values of the last validation until the next one, so they would pass for those of every visit in
    between.

    Attributes:
        allowed: The names that may be recorded; None allows all.
    """

    def __init__(self) -> None:
        self.allowed: Collection[str] | None = None
        self._before: Metrics = {}
        self._overwritten: Metrics = {}  # values of training under a name that validation uses, too
        self._of_validation: set[str] = set()
        self._validated = False

    def forget_validation(self) -> None:
        """To be called when a visit begins, and after its last batch: a validation before it is left out."""
        self._validated = False

    def validation_starts(self, trainer: Trainer) -> None:
        """To be called when a validation starts."""
        self._before = _values(trainer, set(trainer.callback_metrics))

    def validation_ends(self, trainer: Trainer) -> None:
        """To be called when a validation ends."""
        after = _values(trainer, set(trainer.callback_metrics))
        self._of_validation |= after.keys() - self._before.keys()
        self._overwritten = {
            name: value
            for name, value in self._before.items()
            if name not in self._of_validation and after.get(name) != value
        }
        self._validated = True

    def of_training(self, trainer: Trainer) -> Metrics:
        """What the module has logged in training."""
        names = set(trainer.callback_metrics) - self._of_validation - set(OF_TRANSFER)
        return _values(trainer, names if self.allowed is None else names & set(self.allowed))

    def of_validation(self, trainer: Trainer) -> Metrics:
        """What the validation since the visit's last batch has logged, if there was one."""
        return _values(trainer, self._of_validation) if self._validated else {}

    def of_epoch(self, trainer: Trainer, trained: bool = True, validated: bool = True) -> Metrics:
        """The same at the end of an epoch, with the validation since the visit's last batch, if there was one.

        Args:
            trainer: The trainer.
            trained: Whether to give the values of training.
            validated: Whether to give those of the validation.
        """
        training = self.of_training(trainer) if trained else {}
        if not (self._validated and validated):
            return training
        overwritten = self._overwritten if trained else {}
        return {**training, **overwritten, **_values(trainer, self._of_validation)}


def _values(trainer: Trainer, names: set[str]) -> Metrics:
    values = {name: float(value) for name, value in trainer.callback_metrics.items() if name in names}
    return {name: value if math.isfinite(value) else None for name, value in sorted(values.items())}
