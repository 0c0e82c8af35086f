"""SiteEnsemble: the wrapper that averages what site models predict."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from typing_extensions import override

from lit_dist.models.classifier import ImageClassifier
from lit_dist.models.site_reports import SiteReported
from lit_dist.models.stored_module import stored_module
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

Output = Literal["classes", "binary", "value"]

_PREDICTIONS: dict[Output, Callable[[Tensor], Tensor]] = {
    "classes": lambda logits: logits.softmax(dim=1),
    "binary": lambda logits: _two_classes(logits),
    "value": lambda values: values,
}
_TASKS: dict[Output, Callable[[], Task]] = {"classes": Classification, "binary": Classification, "value": Regression}


class SiteEnsemble(SiteReported):
    """Averages the predictions of models that were each trained at one site; no weights leave a site but these.

    The average is taken of what the members' task predicts: of probabilities, not of logits or votes, and of values
    for a regression. Source: the
    ensembling of Chang et al., "Distributed deep learning networks among institutions for medical imaging", JAMIA 2018,
    https://doi.org/10.1093/jamia/ocy017. It is tested and predicts; it is not trained. A batch is what
    ``ImageClassifier`` takes, and it logs the same values.

    Args:
        members: The site models. Their networks may differ; each maps the same images to outputs of the same shape.
        checkpoints: The files of the site models instead, each of the class ``member``.
        weights: ``"equal"``; ``"size"`` weights each member by its site's number of training images, if the members are
            in the order of the datamodule's sites; or one positive number a member.
        output: What members give that have no ``task``: ``"classes"`` (logits, (images, classes)), ``"binary"`` (one
            logit an image) or ``"value"`` (a regression's value).
        member: The class of the checkpoints' models.

    Raises:
        InputError: If there are no members, the weights do not fit them, or a checkpoint cannot be read.

    Example:
        >>> members = [ImageClassifier("squeezenet1_1"), ImageClassifier("shufflenet_v2_x0_5")]
        >>> SiteEnsemble(members).eval()(torch.zeros(2, 3, 64, 64)).shape  # probabilities
        torch.Size([2, 2])
    """

    def __init__(
        self,
        members: Sequence[nn.Module] | None = None,
        checkpoints: Sequence[str | Path] | None = None,
        weights: Literal["equal", "size"] | list[float] = "equal",
        output: Output = "classes",
        member: type[pl.LightningModule] = ImageClassifier,
    ) -> None:
        if members is not None and checkpoints is not None:
            raise InputError("an ensemble is made of members or of checkpoints, not of both")
        if output not in _PREDICTIONS:
            raise InputError(f"output={output!r} is not one of {', '.join(_PREDICTIONS)}")
        made = list(members or [stored_module(member, path) for path in checkpoints or ()])
        if not made:
            raise InputError("an ensemble needs members: give checkpoints=[site_1.ckpt, site_2.ckpt, ...]")
        own = getattr(made[0], "task", None)
        super().__init__(own if isinstance(own, Task) else _TASKS[output]())
        self.members = nn.ModuleList(made)
        self.output = output
        self._members_have_task = isinstance(own, Task)
        self.by_size = weights == "size"
        given = [1.0] * len(self.members) if isinstance(weights, str) else weights
        if isinstance(weights, str) and weights not in ("equal", "size"):
            raise InputError(f"weights={weights!r} is 'equal', 'size' or a number for each member")
        self._set_weights(given)

    @classmethod
    def from_checkpoints(cls, paths: Sequence[str | Path], **kwargs: Any) -> Self:
        """Make the ensemble of the models in checkpoints.

        Args:
            paths: The files, as ``SafetensorsCheckpointIO`` writes them.
            **kwargs: Further arguments of the class.
        """
        return cls(checkpoints=list(paths), **kwargs)

    def _set_weights(self, weights: Sequence[float]) -> None:
        if len(weights) != len(self.members) or not all(0 < weight < torch.inf for weight in weights):
            raise InputError(f"weights={list(weights)} are not {len(self.members)} positive numbers, one a member")
        self.weights = [weight / sum(weights) for weight in weights]

    @override
    def setup(self, stage: str) -> None:
        if stage == "fit":
            raise InputError(
                "an ensemble is not trained: train its members, one a site, and test it with lit-dist test"
            )
        self.weigh(getattr(self.trainer, "datamodule", None))

    def weigh(self, data: Any) -> None:
        """Weight the members by the sizes of a datamodule's sites, if ``weights`` asks for it."""
        if self.by_size:
            self._set_weights(_sizes(data))

    @override
    def forward(self, images: Tensor) -> Tensor:
        """The weighted mean of the members' probabilities, float (images, classes), or of their values."""
        # One after the other: stacking members with torch.func takes longer, see benchmarks/README.md.
        prediction = self.task.predictions if self._members_have_task else _PREDICTIONS[self.output]
        total: Tensor | None = None
        for member, weight in zip(self.members, self.weights, strict=True):
            part = prediction(member(images).float()) * weight
            if len(part) != len(images):  # two logits an image, say, would pass for two images
                raise InputError(
                    f"{len(part)} predictions for {len(images)} images: output={self.output!r} is not what members give"
                )
            if total is not None and total.shape != part.shape:
                raise InputError(f"the members' outputs have different shapes: {[*total.shape]} and {[*part.shape]}")
            total = part if total is None else total + part
        assert total is not None
        return total

    @override
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """What ``forward`` gives."""
        prediction: Tensor = self(batch[0] if isinstance(batch, list | tuple) else batch)
        return prediction

    @override
    def reported(self, images: Tensor) -> Tensor:
        predictions: Tensor = self(images)
        return self.task.scores_of(predictions)  # logits, say, of whose softmax these are the logarithms

    @override
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """None: an ensemble is not trained. Lightning asks for it before it says so."""

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """None."""
        return None


def _two_classes(logits: Tensor) -> Tensor:
    logits = logits.flatten()
    # 1 - sigmoid would be 0 from a logit of 17 on, and the loss of a label 0 that of the smallest number there is.
    return torch.stack([(-logits).sigmoid(), logits.sigmoid()], dim=1)


def _sizes(data: Any) -> list[float]:
    loaders = data.train_dataloader() if data is not None else None
    if not isinstance(loaders, Mapping):
        raise InputError("weights='size' needs a datamodule with one training loader a site; give numbers instead")
    return [float(len(loader.dataset)) for loader in loaders.values()]
