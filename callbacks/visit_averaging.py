"""VisitAveraging: judges the mean of what the visits have left, beside the weights that travel on."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from lit_dist.callbacks.around_steps import AroundSteps
from lit_dist.callbacks.heuristics.find_transfer import require_transfer
from lit_dist.checkpoints.baton import read_checkpoint
from lit_dist.models.norm_statistics import exchanged
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_count
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import VisitCallback, local_names, visit_callbacks


class VisitAveraging(VisitCallback, AroundSteps):
    """Averages the weights after each visit, and lets validation, test and prediction judge the average.

    The average is the plain mean of all visits so far, and from ``cycles`` cycles on that of a memory as long: each
    visit then counts ``1 / (cycles * sites)``, and the ones before fade. With ``FederatedAveraging`` it is that of the
    rounds, each of which then counts ``1 / cycles``. It has batch normalisation's statistics, too; with
    ``SiteStatistics`` those of each site are estimated under it. Training goes on from the weights that the last visit
    left, as without this callback, and so do the ledger and its hashes. The average travels, in double precision: twice
    the size of the weights.

    A checkpoint holds both: the weights that travel under ``state_dict``, and the average in the state of this
    callback. So a test of ``best.ckpt`` with it in the configuration judges the average, as the validation did that has
    found it the best; ``VisitAveraging.weights_of`` gives it. ``SiteEvaluation`` looks at the weights that travel.

    It averages over visits what Izmailov et al., "Averaging weights leads to wider optima and better generalization",
    UAI 2018, https://arxiv.org/abs/1803.05407, average over epochs.

    Args:
        cycles: The length of the memory in cycles, from 1.

    Raises:
        InputError: If it is not a whole number from 1.
    """

    def __init__(self, cycles: int = 1) -> None:
        check_count(1, 10**9, cycles=cycles)
        self.cycles = cycles
        self._judges = True

    # -- the average -------------------------------------------------------------------------------------------------

    @override
    def begin_run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        local = local_names(trainer, pl_module)
        average = {
            name: torch.zeros_like(each, dtype=_wide(each)) for name, each in _averaged(pl_module) if name not in local
        }
        self.travelling = {"visits": 0, "average": average}

    @override
    @torch.no_grad()
    def on_visit_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        transfer = require_transfer(trainer)
        itinerary = transfer.itinerary(transfer.sites)
        # Where visits are merged, so is what each makes of the average: a step of it is a round.
        memory = self.cycles * (1 if itinerary.merges else len(itinerary.sites))
        self.travelling["visits"] += 1
        share = 1 / min(self.travelling["visits"], memory)
        average = self.travelling["average"]
        for name, each in _averaged(pl_module):
            if name not in average:  # each site has its own
                continue
            average[name] += (each - average[name]) * share

    @property
    @override
    def state_key(self) -> str:
        """The class alone: there is one, and its average is the same whatever its memory is to be from now on."""
        return self._generate_state_key()

    # -- judging it --------------------------------------------------------------------------------------------------

    @override
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(pl_module, "validation_step")

    @override
    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(pl_module, "test_step")

    @override
    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(pl_module, "predict_step")

    def _begin(self, module: LightningModule, step: str) -> None:
        if self._judges and self.travelling.get("visits"):
            average = self._cast(module)
            self.wrap(module, step, lambda: exchanged(module.state_dict(keep_vars=True), average))

    def judge_what_is_sent(self) -> None:
        """Leave the weights of an evaluation as they are: a site of a federation gets the average from the server."""
        self._judges = False

    def in_place(self, module: LightningModule) -> AbstractContextManager[None]:
        """Let the module have the average in the block, once there is one."""
        average = self._cast(module) if self.travelling.get("visits") else {}
        return exchanged(module.state_dict(keep_vars=True), average)

    def _cast(self, module: LightningModule) -> dict[str, Tensor]:
        average = self.travelling["average"]
        return {name: average[name].to(each) for name, each in _averaged(module) if name in average}

    @staticmethod
    def weights_of(checkpoint: str | Path) -> dict[str, Tensor]:
        """The averaged weights and buffers of a checkpoint, for ``load_state_dict``.

        Raises:
            InputError: If the file is damaged, or none of a run with this callback.
        """
        state = read_checkpoint(Path(checkpoint))
        if any(map(_is_own, state.get("callbacks", {}))):
            return judged_weights(state)
        raise InputError(f"{checkpoint} has no average: it is of a run without VisitAveraging")


def judged_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights and buffers that a validation of a checkpoint's run has judged: the average, if there was one."""
    own = [state for key, state in checkpoint.get("callbacks", {}).items() if _is_own(key)]
    travelling = own[0]["travelling"] if own else {}
    average = travelling["average"] if travelling.get("visits") else {}
    return {
        name: average[name].to(each) if name in average else each for name, each in checkpoint["state_dict"].items()
    }


def _is_own(key: str) -> bool:
    return key.partition("{")[0] == VisitAveraging.__qualname__


def find_averaging(trainer: Trainer) -> VisitAveraging | None:
    """The ``VisitAveraging`` of a trainer, if there is one."""
    return next((each for each in visit_callbacks(trainer) if isinstance(each, VisitAveraging)), None)


def _averaged(module: LightningModule) -> list[tuple[str, Tensor]]:
    """The weights and buffers that have a mean."""
    tensors = module.state_dict().items()
    return [(name, each) for name, each in tensors if each.is_floating_point() or each.is_complex()]


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64
