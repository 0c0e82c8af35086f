"""HandOff: the proof that a visit begins with the weights that the one before it ended with."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_dist.checkpoints.baton import sha256_of, tensor_lines
from lit_dist.utils.errors import InputError
from lit_dist.utils.one_lightning import is_known

_BETWEEN = (
    *("on_validation_start", "on_validation_epoch_start", "on_validation_batch_end", "on_validation_epoch_end"),
    *("on_validation_end", "on_train_epoch_end", "on_train_epoch_start", "on_train_batch_start", "on_train_end"),
)


class HandOff:
    """Knows the tensors that were handed on last, so that it can tell which of them are others."""

    def __init__(self) -> None:
        self._sha256 = ""
        self._lines: dict[str, str] = {}  # of the fingerprint, by tensor

    def take(self, trainer: Trainer) -> tuple[str, int]:
        """Take the weights that a visit ends with. To be called by every process.

        Returns:
            Their hash and their bytes.
        """
        self._sha256, size, self._lines = weights(trainer)
        return self._sha256, size

    def check(self, trainer: Trainer, handed_on: str, what: str) -> str:
        """Compare the module's weights with those that were handed on. To be called by every process.

        Args:
            trainer: The trainer.
            handed_on: The hash of those.
            what: What is not so, if they differ.

        Returns:
            The hash of the module's weights.

        Raises:
            InputError: If they differ.
        """
        sha256, _, lines = weights(trainer)
        if sha256 == handed_on:
            return sha256
        known = self._lines if self._sha256 == handed_on else lines
        changed = [name for name, line in lines.items() if line != known.get(name)]
        told = f"; changed: {', '.join(changed[:3])}{' and others' if len(changed) > 3 else ''}" if changed else ""
        hooks = ", ".join(_hooks_between(trainer))
        raise InputError(
            f"{what} (SHA-256 {sha256[:12]} against {handed_on[:12]}{told}). What changes weights or buffers after a"
            f" visit is not part of it{': look at ' + hooks if hooks else ''}. Let the module do so in its"
            " on_train_batch_end, a callback before the transfer callback in its own, a VisitCallback in on_visit_end"
        )


def weights(trainer: Trainer) -> tuple[str, int, dict[str, str]]:
    """The hash of a module's weights, their bytes, and in the first process the lines of their fingerprint.

    Every process takes part, since a sharded strategy gathers the weights here. What counts is the first one's: until
    the next step the buffers of the others may differ, and no checkpoint has them.
    """
    state = trainer.strategy.lightning_module_state_dict()
    lines = tensor_lines(state) if trainer.is_global_zero else {}
    sha256, size = trainer.strategy.broadcast((sha256_of(lines), sum(state[name].nbytes for name in lines)))
    return sha256, size, lines


def _hooks_between(trainer: Trainer) -> list[str]:
    """The hooks of the user's module and callbacks that Lightning calls between two visits."""
    own: list[Any] = [trainer.lightning_module, *trainer.callbacks]  # type: ignore[attr-defined]
    found = []
    for each in own:
        kind, is_module = type(each), each is trainer.lightning_module
        base: type = LightningModule if is_module else Callback
        if not is_known(kind):
            names = _BETWEEN if is_module else (*_BETWEEN, "on_train_batch_end")
            found += [f"{kind.__name__}.{name}" for name in names if getattr(kind, name) is not getattr(base, name)]
    return found
