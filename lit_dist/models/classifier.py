"""ImageClassifier: the LightningModule of the paper, for any torchvision backbone."""

import math
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from typing_extensions import override

from lit_dist.checkpoints.baton import check_weights
from lit_dist.models.backbones import build_backbone, load_weights, trains_on_one
from lit_dist.models.metrics import METRICS
from lit_dist.models.site_reports import SiteReported, SiteReports
from lit_dist.models.stored_module import stored_module
from lit_dist.utils.errors import InputError

Batch = tuple[Tensor, Tensor]


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


_adam.__module__ = "lit_dist.classifier"  # the address that saved settings, and the names of a study's runs, hold


class ImageClassifier(SiteReported):
    """Classifies images: cross-entropy in training; the values of ``lit_dist.models.metrics`` per site and over all.

    A batch is ``(images, labels)``: float (images, 3, height, width), normalised, and int64 (images,). Validation and
    test loaders may be a dict by site: then each value is logged as ``val_<metric>/<site>``, and as ``val_<metric>``
    over all sites' images, so that ``val_loss`` is the mean of the sites' losses weighted by their sizes (likewise
    ``test_``). That loss is the plain cross-entropy, whatever the training loss, so that runs compare.

    Args:
        backbone: The name of a torchvision classification network.
        num_classes: The number of classes.
        weights: A file with weights to begin with (a checkpoint, safetensors, or one that ``torch.load`` reads with
            ``weights_only``); None begins with random ones.
        dropout: The probability with which a feature before the last layer is dropped in training.
        label_smoothing: How much of each label is spread evenly over all classes in training.
        class_weights: The weight of each class in the training loss.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer.
        lr_scheduler_interval: Whether the schedule advances by epochs or by steps.
        lr_scheduler_frequency: After how many epochs or steps the schedule advances. With visits of one epoch, the
            number of sites ties it to cycles.
        backbone_kwargs: Further arguments of the network, such as ``image_size`` of a vision transformer.
        channels_last: Whether convolutions get their weights and images with the channels last in memory, which many
            processors and GPUs are faster with. It is a way to compute, so a checkpoint does not keep it.
        compiled: Whether ``torch.compile`` makes the network faster, for each shape of its batches, after a minute or
            so at its first steps; it needs a C++ compiler. A checkpoint does not keep it either.

    Raises:
        InputError: If a setting is out of range, or the backbone or its weights do not fit.

    Example:
        >>> classifier = ImageClassifier("squeezenet1_1", num_classes=5)
        >>> classifier(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        backbone: str = "resnet34",
        num_classes: int = 2,
        weights: str | Path | None = None,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: list[float] | None = None,
        optimizer: OptimizerCallable = _adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        lr_scheduler_frequency: int = 1,
        backbone_kwargs: dict[str, Any] | None = None,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        positive = all(0 < weight < math.inf for weight in class_weights or [])
        for holds, message in (
            (num_classes >= 2, f"num_classes={num_classes} is not at least 2"),
            (0 <= dropout < 1, f"dropout={dropout} is not in [0, 1)"),
            (0 <= label_smoothing < 1, f"label_smoothing={label_smoothing} is not in [0, 1)"),
            (
                class_weights is None or (len(class_weights) == num_classes and positive),
                f"class_weights={class_weights} are not {num_classes} positive numbers",
            ),
            (lr_scheduler_frequency >= 1, f"lr_scheduler_frequency={lr_scheduler_frequency} is not a positive number"),
        ):
            if not holds:
                raise InputError(message)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights", "channels_last", "compiled"])
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", torch.tensor(class_weights) if class_weights else None, persistent=False)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_scheduler_interval = lr_scheduler_interval
        self.lr_scheduler_frequency = lr_scheduler_frequency
        self.backbone = build_backbone(backbone, num_classes, dropout, **(backbone_kwargs or {}))
        if weights is not None:
            load_weights(self.backbone, backbone, Path(weights))
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        if compiled:
            # Shapes that were met before must not decide how a step is computed, or a resumed run would differ.
            self.backbone.compile(dynamic=False)
        self.reports = SiteReports()

    @classmethod
    @override
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """Make the model of a checkpoint.

        Args:
            checkpoint_path: The file, as ``SafetensorsCheckpointIO`` writes it.
            **kwargs: Arguments that are to differ from those that the model of the checkpoint had.

        Raises:
            InputError: If the file cannot be read, or the weights do not fit.
        """
        return stored_module(cls, checkpoint_path, **kwargs)

    @override
    def setup(self, stage: str) -> None:
        if any(isinstance(each, LearningRateFinder) for each in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise InputError("LearningRateFinder looks for a hyperparameter lr, which the model does not have: leave it"
                             " out, and give the rate to the optimizer")  # fmt: skip
        # Lightning does so after it has loaded a checkpoint, whose weights would be rounded to single precision.
        self.trainer.precision_plugin.convert_module(self)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_weights(checkpoint["state_dict"], self.state_dict(), self.trainer.ckpt_path or "the checkpoint")

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits, float (images, classes)."""
        logits: Tensor = self.backbone(images)
        return logits

    @override
    def on_fit_start(self) -> None:
        data = getattr(self.trainer, "datamodule", None)
        classes = getattr(data, "num_classes", self.num_classes)
        if classes != self.num_classes:
            raise InputError(f"the data has {classes} classes, the model {self.num_classes}: set num_classes={classes}")
        for callback in [*self.trainer.checkpoint_callbacks, *self.trainer.early_stopping_callbacks]:
            _check_logged(callback, getattr(callback, "monitor", None) or "")

    @override
    def on_train_start(self) -> None:
        loaders: Any = self.trainer.train_dataloader
        for site, loader in loaders.items() if isinstance(loaders, Mapping) else [("the training data", loaders)]:
            images = _images_of_single_batches(loader)
            pixels = getattr(getattr(loader, "dataset", None), "pixels", None)
            if images and pixels is not None and not trains_on_one(self.backbone, (3, *pixels.shape[1:3])):
                raise InputError(
                    f"{site!r} has {images} training images in batches of {loader.batch_size}, so a batch has only one"
                    " image, of which batch normalisation learns nothing: set batch_size to 2 or more, or leave the"
                    " site out"
                )

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if isinstance(batch, Mapping):
            raise InputError(
                f"the batch holds one batch of each of {', '.join(map(str, batch))}: add a transfer callback, such as"
                " CyclicalWeightTransfer, or train on one pool with centralized=true"
            )
        images, labels = batch
        loss = cross_entropy(self(images), labels, weight=self.class_weights, label_smoothing=self.label_smoothing)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    # -- evaluation ------------------------------------------------------------------------------------------------

    @override
    def reported(self, images: Tensor) -> Tensor:
        logits: Tensor = self(images)
        return logits

    @override
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Probabilities, float (images, classes)."""
        images = batch[0] if isinstance(batch, list | tuple) else batch
        probabilities: Tensor = self(images).softmax(dim=1)
        return probabilities

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        schedule = self.lr_scheduler(optimizer)
        monitor = getattr(schedule, "monitor", "val_loss")  # for schedules that wait for a plateau
        _check_logged(schedule, monitor)
        try:
            schedule.state_dict()
        except AttributeError as error:
            raise InputError(f"no checkpoint could hold the state of {type(schedule).__name__}: {error}; give it"
                             " functions written in Python") from None  # fmt: skip
        scheduler: dict[str, Any] = {
            "scheduler": schedule,
            "interval": self.lr_scheduler_interval,
            "frequency": self.lr_scheduler_frequency,
            "monitor": monitor,
        }
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]


def _check_logged(who: object, monitor: str) -> None:
    prefix, _, metric = monitor.partition("/")[0].partition("_")
    if prefix in ("val", "test") and (prefix == "test" or metric not in METRICS):
        known = ", ".join(f"val_{name}" for name in METRICS)
        raise InputError(f"{type(who).__name__} monitors {monitor!r}, which a fit does not log; it logs"
                         f" {known}, and each of them as val_<metric>/<site>")  # fmt: skip


def _images_of_single_batches(loader: object) -> int:
    """The number of images of a loader that has a batch of one; 0 if it has none, or that cannot be known."""
    if not isinstance(loader, DataLoader) or loader.batch_size is None or not isinstance(loader.sampler, Sized):
        return 0
    images = len(loader.sampler)
    single = loader.batch_size == 1 or (images % loader.batch_size == 1 and not loader.drop_last)
    return images if single else 0
