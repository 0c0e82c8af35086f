"""ImageDataModule: what every collection of images over several sites has in common."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lit_dist.datamodules.base import SiteDataModule
from lit_dist.datamodules.images.augmentation import Augmenter
from lit_dist.datamodules.images.cache import read_prepared
from lit_dist.datamodules.images.image_index import ImageFile
from lit_dist.datamodules.images.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from lit_dist.datamodules.images.site_images import Pixels, SiteImages, as_batch, augmented, one_thread
from lit_dist.utils.errors import InputError


class ImageDataModule(SiteDataModule):
    """Images of several institutions, each with its own training, validation and test patients.

    A batch leaves a loader as uint8 images and targets, of classes int64 labels; on the device the images become float,
    normalised, (images, 3, height, width), and are augmented there first where ``DeviceAugmentation`` is to.

    A collection implements ``read_images``, which says what images there are, and ``pixels``, which gives them decoded.

    Args:
        *args: Those of ``SiteDataModule``.
        augmentation: What is done to training images; None leaves them as they are.
        degrade: For sites with a poor camera, by how much its images are made smaller and large again, for example
            ``{"site-1": 4}``. It is done to the site's training and validation images; the test stays as it is, so that
            all heuristics are tested on the same images.
        mean: The mean of each colour that is subtracted, in the range 0 to 1.
        std: The standard deviation of each colour that is divided by, in the range 0 to 1.
        **kwargs: Those of ``SiteDataModule``.
    """

    def __init__(
        self,
        *args: Any,
        augmentation: Augmenter | None = None,
        degrade: dict[str, float] | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not (all(map(math.isfinite, mean)) and all(0 < each < math.inf for each in std)):
            raise InputError(f"mean={mean} and std={std} are not finite numbers, those of std above 0")
        self.augmentation = augmentation
        self.degrade = dict(degrade or {})
        self.normalise = Normalisation(mean, std)
        self._pixels: tuple[Pixels, NDArray[np.int64]] | None = None

    @abstractmethod
    def read_images(self) -> pd.DataFrame:
        """The images, see ``read_records``."""

    @abstractmethod
    def pixels(self, table: pd.DataFrame) -> tuple[Pixels, NDArray[np.int64]]:
        """The decoded images of the table's rows: uint8 arrays, and the slot of each row in them."""

    def method(self) -> dict[str, Any]:
        """What the prepared images depend on, besides their size."""
        return {}

    def source_of(self, path: str) -> ImageFile:
        """What a new image's file is read as."""
        return ImageFile(path)

    def _prepare(self, content: bytes) -> NDArray[np.uint8]:
        """Decode a file's bytes and prepare the image: uint8, (height, width, 3).

        Raises:
            ValueError: If they are not an image.
        """
        raise InputError(f"{type(self).__name__} has no way to prepare the file of a new image: give it a _prepare")

    def prepared(self, path: str) -> NDArray[np.uint8] | str:
        """Read and prepare a new image's file: uint8, (height, width, 3); or why that cannot be done."""
        found = read_prepared(self.source_of(path), self._prepare)
        if isinstance(found, str):
            return found
        assert found[2] is not None, "no content is known"
        return found[2]

    @override
    def signature(self) -> dict[str, Any]:
        return {**super().signature(), "preparation": {**self.method(), "size": getattr(self, "size", None)}}

    @override
    def read_records(self) -> pd.DataFrame:
        return self.read_images()

    @override
    def setup(self, stage: str) -> None:
        self._decoded()
        super().setup(stage)

    @override
    def dataset(self, sites: Sequence[str], split: str) -> SiteImages:
        rows = self.rows_of(sites, split)
        pixels, slots = self._decoded()
        augmentation = self.augmentation if split == "train" else None
        table = self.table.iloc[rows].reset_index(drop=True)
        factors = None
        if self.degrade and split != "test":
            factors = np.asarray(table["site"].map(self.degrade).fillna(1.0), np.float64)
        targets = self.learning_task.targets(table["label"].to_numpy())
        return SiteImages(pixels, slots[rows], table, augmentation, factors, targets)

    @override
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Augment a batch's uint8 images, if that was left to the device, and make them float and normalised."""
        images, labels = augmented(super().on_after_batch_transfer(batch, dataloader_idx), self.augmentation)
        images = self.normalise(images)
        trainer = self.trainer
        if trainer is not None:  # for a network of half or double precision; Lightning has converted what came before
            images = trainer.precision_plugin.convert_input(images)
        return images, labels

    def _decoded(self) -> tuple[Pixels, NDArray[np.int64]]:
        if self._pixels is None:
            self._open()
            self._pixels = self.pixels(self.table)
        return self._pixels

    @override
    def _check_table(self, table: pd.DataFrame) -> None:
        unknown = sorted(self.degrade.keys() - set(self.site_names))
        if unknown or not all(1 <= factor < math.inf for factor in self.degrade.values()):
            raise InputError(f"degrade={self.degrade} gives a factor from 1 for some of {', '.join(self.site_names)}")
        super()._check_table(table)

    @override
    def _loading(self) -> dict[str, Any]:
        return {**super()._loading(), "worker_init_fn": one_thread, "collate_fn": as_batch}
