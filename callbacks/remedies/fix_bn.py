"""FixBN: freezes batch normalisation's statistics after the first cycles."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import nn
from typing_extensions import override

from lit_dist.models.norm_statistics import norms_of
from lit_dist.utils.setting_checks import check_count
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import VisitCallback


class FixBN(VisitCallback):
    """Trains the first cycles as ever, and the rest with the shared statistics that these have left.

    From then on all sites train with the statistics that they are judged by, and none changes them. The layers' weights
    are still trained. Source: Zhong et al., "Making batch normalization great in federated deep learning",
    https://arxiv.org/abs/2303.06530.

    Args:
        cycles: After how many cycles they are frozen, from 1.

    Raises:
        InputError: If it is not a number from 1.
    """

    def __init__(self, cycles: int = 1) -> None:
        check_count(1, 10**9, cycles=cycles)
        self.cycles = cycles
        self._norms: list[nn.Module] = []  # of the module that a fit trains

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._norms = norms_of(pl_module)

    @override
    def begin_run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.travelling = {"cycles": 0}

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.travelling["cycles"] >= self.cycles:
            for norm in self._norms:  # in each step, since a validation ends with all layers in training mode
                norm.eval()

    @override
    def on_cycle_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        self.travelling["cycles"] += 1

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._norms = []

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._norms = []
