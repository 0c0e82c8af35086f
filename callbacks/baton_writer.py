"""BatonWriter: keeps each baton of a run as a file, so that a visit can be repeated from what came in."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lit_dist.baton import write_checkpoint
from lit_dist.callbacks.optimizer_states import OptimizerState
from lit_dist.itinerary import Visit
from lit_dist.lightning_internals import dump_checkpoint
from lit_dist.run_folder import run_folder

_TRAVELS = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "lr_schedulers")


class BatonWriter:
    """Writes ``visit_N.baton``: the weights, progress and schedules with which visit N ends and the next begins.

    With ``optimizer_state="local"`` the optimizer's state stays at its site: ``visit_N.local`` has what stays behind.

    Args:
        folder: Where to write; a relative path is one inside the run's folder.
        policy: What becomes of the optimizer's state at a transfer.
        key: The transfer callback's key in a checkpoint.
    """

    def __init__(self, folder: str | Path, policy: OptimizerState, key: str) -> None:
        self.folder = Path(folder)
        self.policy = policy
        self.key = key

    def write(self, trainer: Trainer, visit: Visit) -> None:
        """Write the baton that a visit hands on. To be called by every process."""
        checkpoint = dump_checkpoint(trainer)
        folder = run_folder(trainer) / self.folder
        transfer = checkpoint["callbacks"][self.key]
        kept, transfer["optimizer_states"] = transfer["optimizer_states"], {}
        states = checkpoint["optimizer_states"]
        if self.policy != "carry":
            states = [{**state, "state": {}} for state in states]
        baton: dict[str, Any] = {name: checkpoint[name] for name in _TRAVELS}
        baton["callbacks"] = {self.key: transfer}
        baton["optimizer_states"] = states
        if trainer.is_global_zero:
            write_checkpoint(baton, baton_path(folder, visit.number))
            if visit.site in kept:
                write_checkpoint({"optimizer_states": kept[visit.site]}, local_path(folder, visit.number))


def baton_path(folder: Path, visit: int) -> Path:
    """The file of the baton that a visit hands on."""
    return folder / f"visit_{visit:06d}.baton"


def local_path(folder: Path, visit: int) -> Path:
    """The file of the optimizer's state that stays at the site of a visit."""
    return folder / f"visit_{visit:06d}.local"
