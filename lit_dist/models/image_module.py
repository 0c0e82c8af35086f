"""ImageModule: a torchvision network trained for a task."""

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lit_dist.models.backbones import build_backbone, load_weights, trains_on_one
from lit_dist.models.supervised import SupervisedModule
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError


class ImageModule(SupervisedModule):
    """A torchvision network that is trained for a task.

    Args:
        task: What is predicted, and how it is judged.
        backbone: The name of a torchvision classification network.
        weights: A file with weights to begin with (a checkpoint, safetensors, or one that ``torch.load`` reads with
            ``weights_only``); None begins with random ones.
        dropout: The probability with which a feature before the last layer is dropped in training.
        backbone_kwargs: Further arguments of the network, such as ``image_size`` of a vision transformer.
        channels_last: Whether convolutions get their weights and images with the channels last in memory, which many
            processors and GPUs are faster with. It is a way to compute, so a checkpoint does not keep it.
        compiled: Whether ``torch.compile`` makes the network faster, for each shape of its batches, after a minute or
            so at its first steps; it needs a C++ compiler. A checkpoint does not keep it either.
        **kwargs: Those of ``SupervisedModule``.

    Raises:
        InputError: If a setting is out of range, or the backbone or its weights do not fit.
    """

    def __init__(
        self,
        task: Task,
        backbone: str,
        weights: str | Path | None,
        dropout: float,
        backbone_kwargs: dict[str, Any] | None,
        channels_last: bool,
        compiled: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(task, **kwargs)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout} is not in [0, 1)")
        self.backbone = build_backbone(backbone, task.outputs, dropout, **(backbone_kwargs or {}))
        if weights is not None:
            load_weights(self.backbone, backbone, Path(weights))
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        if compiled:
            # Shapes that were met before must not decide how a step is computed, or a resumed run would differ.
            self.backbone.compile(dynamic=False)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """The task's outputs, such as logits, float (images, outputs)."""
        outputs: Tensor = self.backbone(images)
        return outputs

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


def _images_of_single_batches(loader: object) -> int:
    """The number of images of a loader that has a batch of one; 0 if it has none, or that cannot be known."""
    if not isinstance(loader, DataLoader) or loader.batch_size is None or not isinstance(loader.sampler, Sized):
        return 0
    images = len(loader.sampler)
    single = loader.batch_size == 1 or (images % loader.batch_size == 1 and not loader.drop_last)
    return images if single else 0
