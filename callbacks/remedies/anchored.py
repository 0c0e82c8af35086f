"""Anchored: what holds a visit's weights near those that came in."""

from abc import abstractmethod

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import loss_scale
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import VisitCallback, local_names


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
        local = local_names(trainer, pl_module)  # no other site pulls at them
        self.staying["came_in"] = {
            name: each.detach().clone()
            for name, each in pl_module.named_parameters()  # also what is unfrozen on the way
            if name not in local and _pulls(self.strength(name))
        }

    @override
    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        came_in = self.staying.get("came_in", {})
        scale = loss_scale(trainer, optimizer)
        stepped = {id(each) for group in optimizer.param_groups for each in group["params"]}
        for name, parameter in pl_module.named_parameters():
            if name in came_in and parameter.grad is not None and id(parameter) in stepped:
                if parameter.grad.layout != torch.strided:
                    raise InputError(f"{type(self).__name__} cannot hold {name!r}, whose gradients are sparse")
                strength = torch.as_tensor(self.strength(name) * scale).to(parameter)
                parameter.grad.addcmul_(parameter - came_in[name], strength)

    @override
    def on_visit_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        self.staying.pop("came_in", None)  # it is not there where a server ends the visit


def _pulls(strength: float | Tensor) -> bool:
    return bool(strength) if isinstance(strength, int | float) else True
