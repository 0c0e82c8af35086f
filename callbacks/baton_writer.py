"""BatonWriter: keeps each baton of a run as a file, so that a visit can be repeated from what came in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lit_dist.callbacks.optimizer_states import OptimizerState
from lit_dist.checkpoints.baton import TRAINED, write_checkpoint
from lit_dist.checkpoints.run_folder import run_folder
from lit_dist.provenance.visit_account import transfer_state
from lit_dist.utils.file_backed import whole
from lit_dist.utils.lightning_internals import dump_checkpoint
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import visit_callbacks

_TRAVELS = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "lr_schedulers")


def baton_of(checkpoint: Mapping[str, Any], trainer: Trainer, key: str, carried: bool) -> dict[str, Any]:
    """What of a checkpoint crosses a transfer.

    Weights, progress and schedules, and the scale of the gradients, if there is one; of the callbacks the transfer's
    account, and what travels of those that take part in visits; the optimizers' state only if it is carried.

    Args:
        checkpoint: The whole of it.
        trainer: The trainer that it comes from.
        key: The transfer callback's key.
        carried: Whether the optimizers' state is carried.
    """
    names = (*_TRAVELS, type(trainer.precision_plugin).__qualname__)
    states = checkpoint["optimizer_states"]
    return {
        **{name: checkpoint[name] for name in names if name in checkpoint},
        "state_dict": checkpoint.get(TRAINED, checkpoint["state_dict"]),
        "callbacks": {
            key: {**transfer_state(checkpoint, key), "optimizer_states": {}},
            **{each.state_key: each.travels() for each in visit_callbacks(trainer)},
        },
        "optimizer_states": states if carried else [{**state, "state": {}} for state in states],
    }


class BatonWriter:
    """Writes ``visit_N.baton``: the weights, progress and schedules with which visit N ends and the next begins.

    Where visits are merged, the two are not the same: the baton has what the next one begins with, and
    ``visit_N.weights`` what visit N ends with.

    ``visit_N.local`` has what stays behind at the site: the state of callbacks, and that of the optimizer with
    ``optimizer_state="local"``.

    Args:
        folder: Where to write; a relative path is one inside the run's folder.
        policy: What becomes of the optimizer's state at a transfer.
        key: The transfer callback's key in a checkpoint.
    """

    def __init__(self, folder: str | Path, policy: OptimizerState, key: str) -> None:
        self.folder = Path(folder)
        self.policy = policy
        self.key = key

    def write_weights(self, trainer: Trainer, visit: Visit) -> None:
        """Write the weights that a visit ends with, where the next one begins with others."""
        if trainer.is_global_zero:
            weights = {"state_dict": trainer.lightning_module.state_dict()}
            write_checkpoint(weights, weights_path(run_folder(trainer) / self.folder, visit.number))

    def write(self, trainer: Trainer, visit: Visit) -> None:
        """Write the baton that a visit hands on. To be called by every process."""
        checkpoint = dump_checkpoint(trainer)
        folder = run_folder(trainer) / self.folder
        kept = transfer_state(checkpoint, self.key)["optimizer_states"]
        baton = baton_of(checkpoint, trainer, self.key, self.policy == "carry")
        if trainer.is_global_zero:
            write_checkpoint(baton, baton_path(folder, visit.number))
            staying = {each.state_key: each.stays(visit.site) for each in visit_callbacks(trainer)}
            if visit.site in kept or any(staying.values()):
                left = {"optimizer_states": kept.get(visit.site), "staying": staying}
                write_checkpoint(whole(left), local_path(folder, visit.number))


def baton_path(folder: Path, visit: int) -> Path:
    """The file of the baton that a visit hands on."""
    return folder / f"visit_{visit:06d}.baton"


def weights_path(folder: Path, visit: int) -> Path:
    """The file of the weights that a visit ends with, if they are to be merged."""
    return folder / f"visit_{visit:06d}.weights"


def local_path(folder: Path, visit: int) -> Path:
    """The file of what stays at the site of a visit."""
    return folder / f"visit_{visit:06d}.local"
