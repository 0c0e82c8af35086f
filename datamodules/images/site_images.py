"""SiteImages: the images of one site and one split, as a torch dataset."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lit_dist.datamodules.images.augmentation import Augmenter
from lit_dist.datamodules.images.device_augmentation import DeviceAugmentation
from lit_dist.datamodules.sampler import Draw

Pixels = NDArray[np.uint8]
"""Decoded images, (slots, height, width, channels): in memory or mapped from a file."""

Batch = tuple[Tensor, ...]


class SiteImages(Dataset[tuple[Tensor, Any]]):
    """Images with their labels, augmented with the seeds that their sampler drew.

    A batch is fetched whole: ``(images, targets)``, uint8, (images, 3, height, width), and what the task has as
    targets, of classes int64, (images,); with ``DeviceAugmentation`` what it is to do on the device is a third tensor.
    An index without a seed, as a validation loader gives it, gives the image as it is. The images' memory is in the
    order (images, height, width, colours), as they are kept.

    Args:
        pixels: The decoded images of all sites.
        slots: Where in ``pixels`` each image of this dataset is, (images,).
        table: The images' rows, with the column ``label``.
        augmentation: Applied to images that come with a seed.
        factors: By how much each image is degraded, (images,); None degrades none.
        targets: What is predicted of each image, (images, ...); by default its class, the label.
    """

    def __init__(
        self,
        pixels: Pixels,
        slots: NDArray[np.int64],
        table: pd.DataFrame,
        augmentation: Augmenter | None = None,
        factors: NDArray[np.float64] | None = None,
        targets: NDArray[Any] | None = None,
    ) -> None:
        self.pixels = pixels
        self.slots = slots
        self.table = table
        self.labels = table["label"].to_numpy(np.int64) if targets is None else targets
        self.augmentation = augmentation
        self.factors = factors if factors is not None and (factors > 1).any() else None

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes that are not forked: where the pixels are mapped from, instead of all of them."""
        if not isinstance(self.pixels, np.memmap):
            return self.__dict__
        return {**self.__dict__, "pixels": None, "mapped": (self.pixels.filename, self.pixels.shape)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        mapped = state.pop("mapped", None)
        self.__dict__.update(state)
        if mapped is not None:
            self.pixels = np.memmap(mapped[0], np.uint8, "r", shape=mapped[1])

    def __len__(self) -> int:
        return len(self.slots)

    def __getitems__(self, keys: Sequence[int] | Sequence[Draw]) -> Batch:
        """A batch, by the images' indices; a loader asks for it where there is this method."""
        rows, seeds = _unpacked(keys)
        images = np.asarray(self.pixels[self.slots[rows]])
        if self.factors is not None:
            for image, factor in zip(images, self.factors[rows], strict=True):
                image[:] = degraded(image, factor)
        later: tuple[Tensor, ...] = ()
        if self.augmentation is not None and seeds is not None:
            if isinstance(self.augmentation, DeviceAugmentation):
                later = (self.augmentation.changes(seeds, *images.shape[1:3]),)
            else:
                images = self.augmentation(images, seeds)
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(self.labels[rows]), *later

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Any]:
        batch = self.__getitems__([key])  # type: ignore[arg-type]  # a list of one kind
        images, labels = augmented(batch, self.augmentation)
        return images[0], labels[0] if labels.ndim > 1 else labels[0].item()


def _unpacked(keys: Sequence[int] | Sequence[Draw]) -> tuple[NDArray[np.int64], NDArray[np.uint64] | None]:
    """The rows to load, and their seeds if they have been drawn with some."""
    if not keys or not isinstance(keys[0], Draw):
        return np.array(keys, np.int64), None
    rows, seeds = np.array(keys, np.uint64).T
    return rows.astype(np.int64), seeds


def augmented(batch: Batch, augmentation: Augmenter | None) -> tuple[Tensor, Tensor]:
    """A batch's images and labels, once what was left to the device is done there."""
    images, labels, *later = batch
    if later and isinstance(augmentation, DeviceAugmentation):
        images = augmentation.changed(images, *later)
    return images, labels


def as_batch(batch: Batch) -> Batch:
    """A loader's ``collate_fn``: a batch is fetched whole, so there is nothing to put together."""
    return batch


def one_thread(worker: int) -> None:
    """Set a worker process up: OpenCV's thread pool does not survive the fork, and the workers share the cores."""
    cv2.setNumThreads(0)


def degraded(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Make an image, uint8, (height, width, 3), smaller by a factor from 1, and as large as it was again."""
    if factor <= 1:
        return image
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
