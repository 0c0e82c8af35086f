"""A module whose steps wait instead of computing, so that several sites do not share this machine's cores."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override


class Waiting(pl.LightningModule):
    """Waits in each training step.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.bias = torch.nn.Parameter(torch.zeros(1))

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        time.sleep(self.seconds)
        return self.bias.sum() ** 2

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)
