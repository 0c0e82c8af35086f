"""Anchored: what holds a visit's weights near those that came in."""

from abc import abstractmethod

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import VisitCallback


class Anchored(VisitCallback):
    """Adds ``s / 2 * (w - w_in)^2`` to the loss, over the trainable parameters, where ``w_in`` came in.

    It is added by its gradient, ``s * (w - w_in)``, before gradients are clipped; the loss that is logged is the
    module's own.
    """

    @abstractmethod
    def strength(self, name: str) -> float | Tensor:
        """``s`` of a parameter, by its name: a number, or a tensor of its shape; 0 leaves it free."""

    @override
    def on_visit_start(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        self.staying["came_in"] = {
            name: each.detach().clone()
            for name, each in pl_module.named_parameters()
            if each.requires_grad and _pulls(self.strength(name))
        }

    @override
    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        came_in = self.staying["came_in"]
        stepped = {id(each) for group in optimizer.param_groups for each in group["params"]}
        for name, parameter in pl_module.named_parameters():
            if name in came_in and parameter.grad is not None and id(parameter) in stepped:
                parameter.grad.addcmul_(parameter - came_in[name], torch.as_tensor(self.strength(name)).to(parameter))

    @override
    def on_visit_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        self.staying.pop("came_in", None)  # it is not there where a server ends the visit


def _pulls(strength: float | Tensor) -> bool:
    return bool(strength) if isinstance(strength, int | float) else True
