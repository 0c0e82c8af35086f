"""Lets one visit of a run diverge."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.callbacks.heuristics.find_transfer import require_transfer


class Spoil(Callback):
    """Makes all gradients of a visit NaN."""

    takes_part = False

    def __init__(self, visit: int) -> None:
        self.visit = visit

    @override
    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        visit = require_transfer(trainer).visit
        for each in pl_module.parameters() if visit is not None and visit.number == self.visit else ():
            if each.grad is not None:
                each.grad.fill_(torch.nan)
