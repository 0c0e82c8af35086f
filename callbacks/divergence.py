"""Divergence: what happens when the loss or the weights of a visit become NaN or infinite."""

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.callbacks.optimizer_states import put_state
from lit_dist.provenance.visit_account import DivergenceState
from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite
from lit_dist.visits.itinerary import Visit

OnDivergence = Literal["stop", "skip"]


class Divergence:
    """Watches the loss, and the weights that a visit ends with.

    Looking at a value on a GPU waits for it, so the loss is looked at in every step only where that costs nothing; else
    a flag is kept on the device, and looked at whenever the trainer logs, and at the end of the visit.

    Args:
        policy: ``"stop"`` ends the run; ``"skip"`` puts the weights back to what came in and lets the rest of the visit
            pass without training.

    Attributes:
        skipping: Whether the rest of the visit passes without training.
    """

    def __init__(self, policy: OnDivergence) -> None:
        self.policy = policy
        self.skipping = False
        self._came_in: dict[str, Any] | None = None
        self._flag: torch.Tensor | None = None

    def begin(self, trainer: Trainer) -> None:
        """Begin a visit."""
        self._flag = None
        if self.policy == "skip":
            if trainer.world_size > 1:
                raise InputError("on_divergence='skip' works in one process only; use 'stop', or one device")
            states = [optimizer.state_dict()["state"] for optimizer in trainer.optimizers]
            self._came_in = copy.deepcopy({"weights": trainer.lightning_module.state_dict(), "optimizers": states})

    def watch(self, outputs: Any) -> None:
        """Take the result of a training step into account."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor) and not self.skipping:
            finite = torch.isfinite(loss.detach()).all()
            self._flag = finite if self._flag is None else self._flag & finite

    def look(self, trainer: Trainer, batch: int, visit_ends: bool) -> str | None:
        """What has become NaN or infinite; None if nothing has, or nobody looked at it yet."""
        if self.skipping:
            return None
        cheap = trainer.strategy.root_device.type == "cpu" and trainer.world_size == 1
        if not (cheap or visit_ends or (batch + 1) % max(trainer.log_every_n_steps, 1) == 0):  # type: ignore[attr-defined]
            return None
        if self._anywhere(trainer, self._flag is not None and not self._flag):
            return "the loss"
        if not visit_ends:
            return None
        name = not_finite(trainer.lightning_module.state_dict())
        return f"the tensor {name!r}" if self._anywhere(trainer, name is not None) else None

    def _anywhere(self, trainer: Trainer, here: bool) -> bool:
        return trainer.strategy.reduce_boolean_decision(here, all=False)

    def skip(self, trainer: Trainer, visit: Visit, what: str) -> None:
        """Put back what came in; the rest of the visit is to pass without training."""
        rank_zero_warn(f"{_happened(trainer, visit, what)}; the visit is skipped, and hands on what came in")
        assert self._came_in is not None
        trainer.lightning_module.load_state_dict(self._came_in["weights"])
        put_state(trainer.optimizers, copy.deepcopy(self._came_in["optimizers"]))
        for optimizer in trainer.optimizers:
            optimizer.zero_grad()
        self.skipping = True

    def end(self) -> None:
        """End the visit."""
        self.skipping = False
        self._flag = None

    def error(self, trainer: Trainer, visit: Visit, what: str) -> InputError:
        """The message with which the run ends."""
        return InputError(
            f"{_happened(trainer, visit, what)}, so the run ends, and nothing that was good is overwritten. Look at the"
            " records of this site, or lower the learning rate and start a new run; on_divergence='skip' leaves such"
            " visits out and continues"
        )

    def state_dict(self) -> DivergenceState:
        """What a resumed run needs."""
        return {"skipping": self.skipping, "came_in": self._came_in}

    def load_state_dict(self, state: DivergenceState) -> None:
        """Restore the state of a checkpoint."""
        self.skipping, self._came_in = state["skipping"], state["came_in"]


def _happened(trainer: Trainer, visit: Visit, what: str) -> str:
    return (
        f"training diverged: {what} is NaN or infinite at site {visit.site!r} (visit {visit.number}, step"
        f" {trainer.global_step} of the run)"
    )
