"""PhantomDataModule: drawn fundus phantoms, for a first run that needs no download."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from typing_extensions import override

from lit_dist.checkpoints import tensor_file
from lit_dist.datamodules.images import phantom_images
from lit_dist.datamodules.images.augmentation import Augmentation, Augmenter
from lit_dist.datamodules.images.cache import default_cache
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.images.decoding import centre_square
from lit_dist.datamodules.images.phantom_images import CameraLook, draw_phantom
from lit_dist.datamodules.images.site_images import Pixels
from lit_dist.utils.errors import InputError
from lit_dist.visits.seeding import derive

GRADE_SHARES = {0: 0.5, 2: 0.3, 3: 0.11, 4: 0.09}
"""The share of each grade. Grade 1 is left out, as it is from the paper's task."""


class PhantomDataModule(ImageDataModule):
    """Phantoms of fundus photographs: drawn, not taken from any patient, and no model of the disease.

    They show that a run works and learns; they say nothing about real photographs. Each site draws its own patients
    with the look of its own camera. The classes are healthy (grade 0) and referable (grades 2 to 4). Drawings are kept
    in the user's folder for caches, so that the runs of a study draw them once.

    Args:
        patients: The number of patients at each site, one image each.
        size: The images' side, in pixels.
        seed: The seed of the drawings.
        augmentation: What is done to training images; by default every rotation and both flips.
        **kwargs: Further arguments of ``ImageDataModule``. The sites are real ones in its sense: ``partition``
            has no effect.

    Raises:
        InputError: If a setting is out of range.

    Example:
        >>> data = PhantomDataModule(sites=2, patients=20, size=32)
        >>> images, labels = next(iter(data.train_dataloader()["site-1"]))
        >>> images.shape, images.dtype
        (torch.Size([14, 3, 32, 32]), torch.uint8)
    """

    class_names = ("healthy", "referable")

    def __init__(
        self,
        patients: int = 360,
        size: int = 64,
        seed: int = 0,
        augmentation: Augmenter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(augmentation=augmentation or Augmentation(), **kwargs)
        if patients < 10 or not 32 <= size <= 512:
            raise InputError(f"patients={patients} must be at least 10, and size={size} from 32 to 512 pixels")
        if seed < 0:
            raise InputError(f"seed={seed} is not a number from 0")
        needed = len(self.site_names) * patients * (3 * size**2 + 1000)  # a drawing, and its row in tables
        if needed > memory():
            raise InputError(
                f"{len(self.site_names)} sites of {patients} patients need {needed / 1e9:,.0f} GB of memory, and this"
                f" machine has {memory() / 1e9:,.0f}; take fewer or smaller images"
            )
        self.patients = patients
        self.size = size
        self.seed = seed

    @override
    def read_images(self) -> pd.DataFrame:
        grades = [grade for grade, share in GRADE_SHARES.items() for _ in range(round(share * self.patients))]
        rows = [
            (f"{site}_{number:05d}", site, camera, grade)
            for camera, site in enumerate(self.site_names)
            for number, grade in enumerate(grades)
        ]
        table = pd.DataFrame(rows, columns=["image", "site", "camera", "grade"])
        return table.assign(patient=table["image"], label=(table["grade"] > 0).astype("int64"))

    @override
    def method(self) -> dict[str, Any]:
        return {"method": "centre square", "version": 1}

    @override
    def _prepare(self, content: bytes) -> NDArray[np.uint8]:
        return centre_square(content, self.size)

    @override
    def pixels(self, table: pd.DataFrame) -> tuple[Pixels, NDArray[np.int64]]:
        path = default_cache() / "phantoms" / f"{self._key(table)}.safetensors"
        with suppress(InputError):  # never drawn, or damaged
            return tensor_file.read(path)[0]["images"].numpy(), np.arange(len(table))
        images = self._draw(table)
        with suppress(InputError):  # where nothing can be written, they are drawn each time
            tensor_file.write(path, {"images": torch.from_numpy(images)}, "")
        return images, np.arange(len(table))

    def _key(self, table: pd.DataFrame) -> str:
        """A hash of all that the drawings depend on, the program that draws them among it."""
        rows = table[["image", "grade", "camera"]].to_csv(index=False)
        program = Path(phantom_images.__file__).read_text(encoding="utf-8")
        return hashlib.sha256(f"{self.seed} {self.size}\n{rows}\n{program}".encode()).hexdigest()[:16]

    def _draw(self, table: pd.DataFrame) -> NDArray[np.uint8]:
        images = np.empty((len(table), self.size, self.size, 3), dtype=np.uint8)
        looks = {camera: CameraLook.of_site(camera, self.seed) for camera in table["camera"].unique()}
        rows = zip(table["image"], table["grade"], table["camera"], strict=True)
        for slot, (name, grade, camera) in enumerate(rows):
            images[slot] = draw_phantom(grade, looks[camera], derive(self.seed, name), self.size)
        return images


def memory() -> int:
    """The bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
