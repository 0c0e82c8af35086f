"""IdleSteps: lets the steps of a visit pass without training."""

from typing import Any

from lightning.pytorch import Trainer

from lit_dist.provenance.visit_metrics import OF_TRANSFER
from lit_dist.utils.lightning_internals import forget_logged
from lit_dist.utils.method_patch import MethodPatch
from lit_dist.visits.visit_callback import visit_callbacks


class IdleSteps:
    """Keeps a module and its visit callbacks from training; Lightning changes no weights where a step gives None."""

    def __init__(self) -> None:
        self._patches: list[MethodPatch] = []

    def begin(self, trainer: Trainer) -> None:
        """Let steps pass from now on."""
        if not self._patches:
            self._patches = [MethodPatch(trainer.lightning_module, "training_step", _nothing)]
            for callback in visit_callbacks(trainer):  # Lightning calls it all the same
                self._patches.append(MethodPatch(callback, "on_before_optimizer_step", _nothing))

    def begin_step(self, trainer: Trainer) -> None:
        """Begin a step, in which nothing is logged: a resumed fit does not know what was logged before it."""
        if self._patches:
            forget_logged(trainer, OF_TRANSFER)

    def end(self) -> None:
        """Let steps train again."""
        while self._patches:
            self._patches.pop().lift()


def _nothing(*_: Any, **__: Any) -> None:
    """What a step comes to in which nothing is trained."""
