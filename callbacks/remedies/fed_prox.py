"""FedProx: keeps a visit's weights near those that came in."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer
from typing_extensions import override

from lit_dist.utils.errors import InputError
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import VisitCallback

_LARGEST = 1e6


class FedProx(VisitCallback):
    """Adds ``mu / 2 * ||w - w_in||^2`` to the loss: over the trainable parameters, where ``w_in`` came in.

    It is added by its gradient, ``mu * (w - w_in)``, before gradients are clipped; the loss that is logged is the
    module's own. With ``mu=0`` a run is what it is without. Source: Li et al., "Federated optimization in heterogeneous
    networks", MLSys 2020, https://arxiv.org/abs/1812.06127, equation 2.

    Args:
        mu: The weight of the term, from 0.

    Raises:
        InputError: If it is negative or not finite.
    """

    def __init__(self, mu: float = 0.01) -> None:
        if type(mu) not in (int, float) or not 0 <= mu <= _LARGEST:
            raise InputError(f"mu={mu!r} is not a number from 0 to {_LARGEST:g}")
        self.mu = mu

    @override
    def on_visit_start(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        came_in = {name: each.detach().clone() for name, each in pl_module.named_parameters() if each.requires_grad}
        self.staying["came_in"] = came_in if self.mu else {}

    @override
    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not self.mu:
            return
        stepped = {id(each) for group in optimizer.param_groups for each in group["params"]}
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None and id(parameter) in stepped:
                parameter.grad.add_(parameter - self.staying["came_in"][name], alpha=self.mu)

    @override
    def on_visit_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        self.staying.clear()
