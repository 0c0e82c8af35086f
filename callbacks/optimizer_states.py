"""What becomes of the optimizers' state (momentum and the like) at a transfer."""

from collections.abc import Sequence
from typing import Any, Literal

from torch.optim import Optimizer

from lit_dist.utils.file_backed import FileBacked

OptimizerState = Literal["reset", "carry", "local"]
StatePerOptimizer = list[dict[int, Any]]


class OptimizerStates:
    """Applies a policy to the optimizers, once a transfer.

    Learning rates and their schedules continue in every case: only the state of the parameters is touched. An optimizer
    that keeps a state in its parameter groups, as Prodigy does, keeps that.

    Args:
        policy: ``"reset"``: only weights travel, and each visit begins with a fresh state; ``"carry"``: the state
            travels with the weights; ``"local"``: each site keeps its own and finds it again at its next visit.

    Attributes:
        kept: With ``"local"``, the states of the sites that wait for their next visit.
    """

    def __init__(self, policy: OptimizerState) -> None:
        self.policy = policy
        self.kept: dict[str, FileBacked] = {}

    def transfer(self, optimizers: Sequence[Optimizer], leaving: str, arriving: str) -> None:
        """Apply the policy to the trainer's optimizers, when the model has left one site and arrives at the next."""
        if self.policy == "reset":
            for optimizer in optimizers:
                optimizer.state.clear()
        elif self.policy == "local":
            self.kept[leaving] = FileBacked([optimizer.state_dict()["state"] for optimizer in optimizers])
            arrived = self.kept.pop(arriving, FileBacked([{} for _ in optimizers]))
            put_state(optimizers, arrived.get())


def put_state(optimizers: Sequence[Optimizer], states: StatePerOptimizer) -> None:
    """Give optimizers a state, and leave their learning rates as they are."""
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
