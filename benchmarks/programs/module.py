"""The LightningModule of the work, and the arguments of its Trainer, for those peers that are Lightning."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

from programs.work import CYCLES, SITES, make_model, make_optimizer

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
EPOCHS = CYCLES * SITES


class Module(pl.LightningModule):
    """The network of the work."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_model()

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return cross_entropy(self.network(images), labels)

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.network)
