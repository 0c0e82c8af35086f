"""EWC: keeps the weights that earlier sites needed near what they were."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

from lit_dist.callbacks.remedies.anchored import Anchored
from lit_dist.models.site_reports import reported_task
from lit_dist.tasks.classification import Classification
from lit_dist.utils.errors import InputError
from lit_dist.utils.outside_loops import modes_kept, on_device
from lit_dist.utils.setting_checks import check_count, check_number
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.seeding import derive, seed_torch
from lit_dist.visits.site_sample import inputs_of, sample
from lit_dist.visits.visit_callback import local_names


class EWC(Anchored):
    """Elastic weight consolidation, online: adds ``strength / 2 * sum F (w - w_in)^2`` to the loss.

    ``w_in`` came in, and ``F`` is the diagonal of the Fisher information of the sites before: how much each weight
    matters for what the network says of their images. It travels, as large as the weights, and shows which features a
    site has used. After each visit it becomes ``decay * F`` plus the site's own, which is the mean over ``images``
    images of its training set of the squared gradient of ``log p(y)``: of each image by itself, where ``y`` is drawn
    from what the network predicts, in evaluation mode. The first visit is free.

    Sources: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017,
    https://arxiv.org/abs/1612.00796; the online form: Schwarz et al., "Progress & compress", ICML 2018,
    https://arxiv.org/abs/1805.06370, equation 9.

    The module's ``forward`` gives logits, float (images, classes), and a batch is its inputs or has them first.

    Args:
        weight: The weight of the term, from 0.
        decay: By how much the information of earlier sites is multiplied after each visit, from 0 to 1; at 1 nothing is
            forgotten, and what can be learnt becomes less and less.
        images: How many of a site's training images ``F`` is estimated from.
        seed: The seed of that sample, and of the labels that are drawn.

    Raises:
        InputError: If a setting is out of range; as a run begins, if lit_dist's own module predicts anything but one
            class a record; in a visit's end, if ``forward`` gives no logits.
    """

    def __init__(self, weight: float = 100.0, decay: float = 0.9, images: int = 64, seed: int = 0) -> None:
        check_number(0, 1e9, weight=weight)
        check_number(0, 1, decay=decay)
        check_count(1, 10**6, images=images)
        check_count(0, 2**62, seed=seed)
        self.weight = weight
        self.decay = decay
        self.images = images
        self.seed = seed

    @override
    def begin_run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        task = reported_task(pl_module)
        if task is not None and not isinstance(task, Classification):
            raise InputError(
                f"EWC draws a class of each record by what is predicted; the task here is {task.name}: leave it out"
            )
        local = local_names(trainer, pl_module)
        self.travelling = {"fisher": {name: each for name, each in _zeros(pl_module).items() if name not in local}}

    @override
    def strength(self, name: str) -> float | Tensor:
        fisher: Tensor = self.travelling["fisher"][name]
        return self.weight * fisher if self.weight else 0.0

    @override
    def on_visit_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        super().on_visit_end(trainer, pl_module, visit)
        loaders: Any = trainer.train_dataloader
        seed = derive(self.seed, "fisher", visit.site, visit.number)
        seed_torch(seed, pl_module.device)  # for the labels
        with modes_kept(pl_module):
            pl_module.eval()
            found = self._fisher(trainer, pl_module, loaders[visit.site], seed)
        for name, fisher in self.travelling["fisher"].items():
            fisher.mul_(self.decay).add_(found[name])

    def _fisher(self, trainer: Trainer, module: LightningModule, loader: Any, seed: int) -> dict[str, Tensor]:
        trained = [(name, each) for name, each in module.named_parameters() if each.requires_grad]
        total = _zeros(module)
        seen = 0
        for batch in sample(loader, self.images, seed):
            for record in inputs_of(on_device(trainer, batch)):
                logits = _logits(trainer, module, record)
                drawn = torch.multinomial(logits.detach().softmax(dim=1), 1)[:, 0]
                loss = cross_entropy(logits, drawn)
                gradients = torch.autograd.grad(loss, [each for _, each in trained], allow_unused=True)
                for (name, _), gradient in zip(trained, gradients, strict=True):
                    if gradient is not None:
                        total[name] += gradient.abs().float() ** 2  # also of a complex one
                seen += 1
        return {name: each / seen for name, each in total.items()}


def _zeros(module: LightningModule) -> dict[str, Tensor]:
    """For all parameters, since some may be frozen for a while."""
    return {name: torch.zeros_like(each, dtype=torch.float32) for name, each in module.named_parameters()}


def _logits(trainer: Trainer, module: LightningModule, record: Any) -> Tensor:
    try:
        with trainer.precision_plugin.forward_context():
            found: Tensor = module(record[None])
        if found.ndim == 2 and found.shape[1] > 1:
            return found.float()
        what = f"gives {tuple(found.shape)}"
    except Exception as error:  # whatever a module of the user's raises
        what = f"fails ({type(error).__name__}: {error})"
    raise InputError(
        f"EWC needs logits, (images, classes), from the forward of {type(module).__name__}, which {what} for one"
        " image: the first of a batch's parts"
    )
