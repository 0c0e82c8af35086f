"""FrozenEncoder: images that a network with given weights has turned into vectors, once, at the site where they are."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from typing_extensions import override

from lit_dist.datamodules.base import SiteDataModule
from lit_dist.datamodules.images.cache import default_cache
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.images.feature_cache import FeatureCache
from lit_dist.datamodules.splits import SPLITS
from lit_dist.datamodules.table_rows import TableRows, as_batch
from lit_dist.models.frozen_backbone import FrozenBackbone, check_architecture
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import file_sha256
from lit_dist.utils.errors import InputError
from lit_dist.utils.threads import in_threads

_AT_ONCE = 64  # images handed to the threads


class FrozenEncoder(SiteDataModule):
    """Vectors of images, for a small network such as ``TabularPredictor``: the images' own network is not trained.

    A batch is ``(vectors, targets)``: float32, (records, features), and what the task has as targets. Which records
    there are, and what is predicted of them, is the matter of ``images``; sites, splits and batches are set here.
    Training images are not augmented.

    Each image goes through the network once, on the processor, when the data is prepared; its vector is kept in the
    cache by the hashes of its pixels, the weights and the architecture. What travels is the head alone. In a federation
    each site encodes its own images, and sites whose weights differ are refused.

    Args:
        images: The images: any of the collections, with its settings of files and preparation.
        architecture: A name of torchvision's, such as ``"squeezenet1_0"``; or, where timm is installed, one of timm's
            after ``timm/``. Its last layer is left out.
        weights: A safetensors file with the weights under that library's names, or a checkpoint of ours. Nothing is
            downloaded, and nothing unpickled.
        sha256: The SHA-256 that the file of weights is to have; any by default.
        cache_dir: Where vectors are kept; by default where the prepared images are.
        **kwargs: Those of ``SiteDataModule``.

    Attributes:
        numeric_columns: A name for each value of a vector, once the data is set up.

    Raises:
        InputError: If there is no such architecture, the weights are missing or do not fit, or ``images`` sets what is
            set here.
    """

    categorical_columns: Sequence[str] = ()

    def __init__(
        self,
        images: ImageDataModule,
        architecture: str,
        weights: str | Path,
        sha256: str | None = None,
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(images, ImageDataModule):
            raise InputError(f"images is a {type(images).__name__}, which is no collection of images")
        check_architecture(architecture)
        self.images = images
        self.architecture = architecture
        self.weights = Path(weights)
        self.sha256 = file_sha256(self.weights)
        if sha256 is not None and sha256.lower() != self.sha256:
            raise InputError(f"{weights} has the SHA-256 {self.sha256}, and sha256 asks for {sha256}")
        folder = Path(cache_dir) if cache_dir else getattr(images, "cache_dir", default_cache())
        self.cache = FeatureCache(folder / "features", {"collection": type(images).__name__, **self._settings()})
        images.deal_like(self, "images")
        self.left_out_of = images.left_out_of
        self._features: Tensor | None = None

    def _settings(self) -> dict[str, Any]:
        normalise = self.images.normalise
        return {
            "version": 1,
            "architecture": self.architecture,
            "weights": self.sha256,
            "mean": normalise.mean,
            "std": normalise.std,
        }

    @property
    def features_sha256(self) -> str:
        """A hash of all that turns pixels into vectors, in which the sites of a federation must agree."""
        return hashlib.sha256(repr(sorted(self._settings().items())).encode()).hexdigest()

    @override
    def signature(self) -> dict[str, Any]:
        return {**self.images.signature(), "features_sha256": self.features_sha256}

    # -- the images' table -------------------------------------------------------------------------------------------

    @override
    def read_records(self) -> pd.DataFrame:
        return self.images.read_records()

    @property
    @override
    def table(self) -> pd.DataFrame:
        return self.images.table

    @property
    @override
    def sites(self) -> list[str]:
        return self.images.sites

    @override
    def _open(self) -> Mapping[Any, Any]:
        return self.images._open()

    @property
    @override
    def learning_task(self) -> Task:
        return self.images.learning_task

    # -- the vectors -------------------------------------------------------------------------------------------------

    @override
    def prepare_data(self) -> None:
        """Prepare and encode the images that are not in the caches yet."""
        if not self.cache.path.exists():
            self._backbone  # noqa: B018  # what is wrong with it is said before images are prepared
        self.images.prepare_data()
        pixels, digests = self._pixels()
        with _one_thread():
            self._features = self.cache.build(digests, lambda places: self._encoded(pixels, places))
        rank_zero_info(
            f"{len(digests)} images are vectors of {self._features.shape[1]} values by {self.architecture}, whose"
            f" weights have the SHA-256 {self.sha256}"
        )

    @override
    def setup(self, stage: str) -> None:
        self._vectors()
        super().setup(stage)

    @property
    def numeric_columns(self) -> list[str]:
        """A name for each value of a vector."""
        return [f"feature_{number}" for number in range(self._vectors().shape[1])]

    @override
    def dataset(self, sites: Sequence[str], split: str) -> TableRows:
        rows = self.rows_of(sites, split)
        table = self.table.iloc[rows].reset_index(drop=True)
        targets = torch.tensor(self.learning_task.targets(table["label"].to_numpy()))
        return TableRows(self._vectors()[torch.from_numpy(rows)], targets, table)

    @override
    def _loading(self) -> dict[str, Any]:
        return {**super()._loading(), "collate_fn": as_batch}

    def _vectors(self) -> Tensor:
        """The vectors of all records, float32, (records, features), in the order of the table."""
        if self._features is None:
            self._features = self.cache.find(self._pixels()[1])
        if self._features is None:
            raise InputError(f"not all images are encoded in {self.cache.path}; call prepare_data() first")
        return self._features

    def _pixels(self) -> tuple[Callable[[int], Tensor], list[bytes]]:
        """What gives the pixels of a record, uint8, (3, height, width), by its place in the table; and their hashes."""
        places: dict[int, tuple[Any, int]] = {}
        self._open()
        for site in self.sites:
            for split in SPLITS:
                dataset = self.images.dataset([site], split)
                rows = self.rows_of([site], split).tolist()
                places.update({row: (dataset, number) for number, row in enumerate(rows)})

        def pixels(place: int) -> Tensor:
            dataset, number = places[place]
            image: Tensor = dataset[number][0]
            return image

        return pixels, in_threads(lambda place: _digest(pixels(place)), range(len(places)))

    def encoded(self, images: Tensor) -> Tensor:
        """The vectors of prepared images, uint8, (images, 3, height, width): float32, (images, features)."""
        with _one_thread():
            return torch.stack(list(self._encoded(lambda place: images[place], range(len(images)))))

    @property
    def encoder(self) -> nn.Module:
        """The network, of which a vector is the mean over all places."""
        return self._backbone.network

    @cached_property
    def _backbone(self) -> FrozenBackbone:
        return FrozenBackbone(self.architecture, self.weights)

    def _encoded(self, pixels: Callable[[int], Tensor], places: Sequence[int]) -> Iterator[Tensor]:
        backbone = self._backbone  # before the threads, of which each would make one

        def encode(place: int) -> Tensor:
            return backbone(self.images.normalise(pixels(place)[None])[0])

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for start in range(0, len(places), _AT_ONCE):
                yield from pool.map(encode, places[start : start + _AT_ONCE])


def _digest(pixels: Tensor) -> bytes:
    content = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())  # as they are kept, so nothing is copied
    sha256 = hashlib.sha256(repr(content.shape).encode())
    sha256.update(content.data)
    return sha256.digest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute an image in one thread, and several images side by side: the last bits depend on that."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
