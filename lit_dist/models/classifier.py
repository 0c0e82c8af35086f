"""ImageClassifier: the LightningModule of the paper, for any torchvision backbone."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

from lit_dist.models.image_module import ImageModule
from lit_dist.models.supervised import _adam
from lit_dist.tasks.classification import Classification
from lit_dist.utils.errors import InputError


class ImageClassifier(ImageModule):
    """Classifies images: cross-entropy in training; the measures of ``Classification`` per site and over all.

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
        positive = all(0 < weight < math.inf for weight in class_weights or [])
        for holds, message in (
            (num_classes >= 2, f"num_classes={num_classes} is not at least 2"),
            (0 <= label_smoothing < 1, f"label_smoothing={label_smoothing} is not in [0, 1)"),
            (
                class_weights is None or (len(class_weights) == num_classes and positive),
                f"class_weights={class_weights} are not {num_classes} positive numbers",
            ),
        ):
            if not holds:
                raise InputError(message)
        super().__init__(
            Classification(num_classes),
            backbone,
            weights,
            dropout,
            backbone_kwargs,
            channels_last,
            compiled,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
            lr_scheduler_frequency=lr_scheduler_frequency,
        )
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights", "channels_last", "compiled"])
        self.label_smoothing = label_smoothing
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", torch.tensor(class_weights) if class_weights else None, persistent=False)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.task.outputs

    @override
    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets, weight=self.class_weights, label_smoothing=self.label_smoothing)
