"""A trainer's transfer callback."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.utils.errors import InputError


def find_transfer(trainer: Trainer) -> WeightTransfer | None:
    """A trainer's transfer callback; None if it has none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, WeightTransfer)), None)


def require_transfer(trainer: Trainer) -> WeightTransfer:
    """A trainer's transfer callback, or ``InputError``."""
    transfer = find_transfer(trainer)
    if transfer is None:
        raise InputError("the model travels only with a transfer callback, such as CyclicalWeightTransfer")
    return transfer
