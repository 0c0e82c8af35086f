"""SiteImages: the images of one site and one split, as a torch dataset."""

from typing import Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lit_dist.datamodules.augmentation import Augmentation
from lit_dist.datamodules.degrade import degraded
from lit_dist.datamodules.sampler import Draw


class Pixels(Protocol):
    """Decoded images: an array, in memory or mapped from a file."""

    def __getitem__(self, slot: int) -> NDArray[np.uint8]:
        """The image in a slot: uint8, (height, width, 3)."""


class SiteImages(Dataset[tuple[Tensor, int]]):
    """Images with their labels, each augmented with the seed that its sampler drew.

    An item is ``(image, label)``: uint8, (3, height, width), and a class. An index without a seed, as a validation
    loader gives it, gives the image as it is.

    Args:
        pixels: The decoded images of all sites.
        slots: Where in ``pixels`` each image of this dataset is, (images,).
        table: The images' rows, with the column ``label``.
        augmentation: Applied to an image that comes with a seed.
        factors: By how much each image is degraded, (images,); None degrades none.
    """

    def __init__(
        self,
        pixels: Pixels,
        slots: NDArray[np.int64],
        table: pd.DataFrame,
        augmentation: Augmentation | None = None,
        factors: NDArray[np.float64] | None = None,
    ) -> None:
        self.pixels = pixels
        self.slots = slots
        self.table = table
        self.labels = table["label"].to_numpy(np.int64)
        self.augmentation = augmentation
        self.factors = factors if factors is not None and (factors > 1).any() else None

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, int]:
        index, seed = (key.index, key.seed) if isinstance(key, Draw) else (key, None)
        image = np.asarray(self.pixels[self.slots[index]])
        if self.factors is not None:
            image = degraded(image, self.factors[index])
        if self.augmentation is not None and seed is not None:
            image = self.augmentation(image, seed)
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), int(self.labels[index])


def one_thread(worker: int) -> None:
    """Set a worker process up: OpenCV's thread pool does not survive the fork, and the workers share the cores."""
    cv2.setNumThreads(0)
