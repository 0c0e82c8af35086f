"""A remedy with state of both kinds, which changes every step."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from lit_dist import Visit, VisitCallback


class Scaffold(VisitCallback):
    """Like SCAFFOLD: a control that travels, one that stays at each site, and gradients that are changed by both."""

    @override
    def begin_run(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.travelling = {"control": self._zeros(pl_module), "visits": 0}

    def _zeros(self, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        return {name: torch.zeros_like(each) for name, each in pl_module.named_parameters()}

    @override
    def on_visit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        self.staying.setdefault("control", self._zeros(pl_module))
        self.staying["came_in"] = {name: each.detach().clone() for name, each in pl_module.named_parameters()}

    @override
    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        for name, each in pl_module.named_parameters():
            if each.grad is not None:
                each.grad.add_(self.travelling["control"][name] - self.staying["control"][name])

    @override
    @torch.no_grad()
    def on_visit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        for name, each in pl_module.named_parameters():
            change = (self.staying["came_in"][name] - each) * 0.1 - self.travelling["control"][name]
            self.staying["control"][name] += change
            self.travelling["control"][name] += change / 3
        self.travelling["visits"] += 1
        self.staying.pop("came_in")
