"""AveragedWeights: tells the weights that are trained from their average, which Lightning puts in their place."""

from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging

from lit_dist.checkpoints.baton import APART, TRAINED
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import at_swap, average_back
from lit_dist.utils.method_patch import patched


class AveragedWeights:
    """Sees to it that a checkpoint of a fit with ``WeightAveraging`` has the trained weights and the average apart.

    While it validates, and when it has ended, the module has the average. A checkpoint that Lightning writes then has
    the two in each other's place, or no trained weights at all. Two averages, or one that cannot be resumed, are an
    ``InputError``.
    """

    def __init__(self, trainer: Trainer) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        averages = [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
        if len(averages) > 1:
            raise InputError("two averages of the weights would take each other's place; keep one WeightAveraging")
        if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
            raise InputError(
                "a fit with StochasticWeightAveraging cannot be resumed as if it had not been interrupted; use"
                " EMAWeightAveraging or WeightAveraging, or leave RunCheckpoint out (enable_checkpointing: false)"
            )
        self._average = averages[0] if averages else None
        self._in_place = False
        self._patches = ExitStack()
        if self._average is not None:
            self._patches.enter_context(patched(self._average, **at_swap(self._average, self._swapped)))

    def _swapped(self) -> None:
        self._in_place = not self._in_place

    def put_apart(self, checkpoint: dict[str, Any]) -> None:
        """Change what is to be written so that the trained weights are where the callback looks for them."""
        if self._average is None or TRAINED not in checkpoint:
            return
        if self._in_place:
            checkpoint["state_dict"], checkpoint[TRAINED] = checkpoint[TRAINED], checkpoint["state_dict"]
        checkpoint[APART] = True

    def end(self, trainer: Trainer) -> None:
        """Leave the average in the module and in the callback, as Lightning does at the end of a fit."""
        if self._average is not None and self._in_place:
            average_back(self._average, trainer.lightning_module)
            self._in_place = False

    def end_at_once(self, trainer: Trainer) -> None:
        """Put the average into the module where a fit had nothing left to do: Lightning leaves the trained weights."""
        if self._average is not None:
            self._average.on_train_end(trainer, trainer.lightning_module)
            self.end(trainer)

    def close(self) -> None:
        """Leave the callback as it was."""
        self._patches.close()
