"""ImageNetDataModule: photographs in one folder a class, as ImageNet and Tiny-ImageNet have them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typing_extensions import override

from lit_dist.datamodules.augmentation import Augmenter
from lit_dist.datamodules.cache import default_cache
from lit_dist.datamodules.cached import CachedDataModule
from lit_dist.datamodules.photographs import SUFFIXES, decode
from lit_dist.errors import InputError

_ANNOTATIONS = "val_annotations.txt"


class ImageNetDataModule(CachedDataModule):
    """Photographs of things, sorted by class: ImageNet, Tiny-ImageNet, or any folder of one's own.

    Expects one folder a class, and a test set if there is one::

        root/
          train/<class>/...                 the images, also in folders below, such as images/
          val/<class>/...                   the test set; or, as Tiny-ImageNet has it,
          val/images/..., val/val_annotations.txt

    Where there is no ``train``, the classes' folders are ``root``'s own. Without ``val``, the test is a part of the
    images. Sites are simulated; each image is a patient of its own. Images are cut to a square around their centre,
    resized, and kept in a cache.

    The data: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, for non-commercial
    research; https://www.image-net.org. Tiny-ImageNet is a part of it at 64 by 64 pixels.

    Args:
        root: The folder of the collection.
        classes: The names of the classes' folders to take; all by default.
        size: The side of the prepared images, in pixels.
        cache_dir: Where prepared images are kept; the user's cache folder by default.
        augmentation: What is done to training images; by default nothing.
        **kwargs: Further arguments of ``InstitutionDataModule``.

    Raises:
        InputError: If a folder or an image is not as it should be.
    """

    can_skip = False

    def __init__(
        self,
        root: str | Path,
        classes: list[str] | None = None,
        size: int = 64,
        cache_dir: str | Path | None = None,
        augmentation: Augmenter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(augmentation=augmentation, **kwargs)
        if size < 8:
            raise InputError(f"size={size} must be at least 8 pixels")
        self.root = Path(root)
        self.train_folder = self.root / "train" if (self.root / "train").is_dir() else self.root
        self.class_names = _checked(classes) if classes else _classes(self.train_folder)
        self.size = size
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache()

    @override
    def read_images(self) -> pd.DataFrame:
        rows = [(path, name, False) for name in self.class_names for path in _images(self.train_folder / name)]
        tests = [(path, name, True) for path, name in self._test_images()]
        table = pd.DataFrame(rows + tests, columns=["path", "class", "held_out"])
        table["image"] = [str(path.relative_to(self.root)) for path in table["path"]]
        table["patient"] = table["image"]
        labels = {name: label for label, name in enumerate(self.class_names)}
        table["label"] = table["class"].map(labels).astype("int64")
        return table if tests else table.drop(columns="held_out")

    def _test_images(self) -> Iterator[tuple[Path, str]]:
        folder = self.root / "val"
        if not folder.is_dir() or self.train_folder == self.root:
            return
        if not (folder / _ANNOTATIONS).is_file():
            for name in self.class_names:
                yield from ((path, name) for path in _images(folder / name))
            return
        wanted, seen = set(self.class_names), set()
        for number, line in enumerate(_lines(folder / _ANNOTATIONS), start=1):
            image, _, rest = line.partition("\t")
            name = rest.partition("\t")[0]
            path = folder / "images" / image
            if not name or Path(image).name != image or not path.is_file():
                raise InputError(f"{folder / _ANNOTATIONS}, line {number}: there is no image {image!r} of a class")
            if image in seen:
                raise InputError(f"{folder / _ANNOTATIONS}, line {number}: the image {image!r} stands twice")
            seen.add(image)
            if name in wanted:
                yield path, name

    # -- the pixels --------------------------------------------------------------------------------------------------

    @override
    def method(self) -> dict[str, Any]:
        return {"method": "centre square", "version": 1}

    @override
    def _prepare(self, content: bytes) -> NDArray[np.uint8]:
        image = decode(content)
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side]
        how = cv2.INTER_AREA if side > self.size else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(square, (self.size, self.size), interpolation=how), dtype=np.uint8)


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if len(names) < 2:
        raise InputError(f"{folder} has {len(names)} folders; it needs one a class, and two classes at least")
    return names


def _checked(classes: list[str]) -> list[str]:
    for name in classes:
        if Path(name).name != name or name in ("", ".."):
            raise InputError(f"classes={classes}: {name!r} is not the name of a folder")
    if len(set(classes)) < len(classes):
        raise InputError(f"a name stands twice in classes={classes}")
    return classes


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error})") from None


def _images(folder: Path) -> list[Path]:
    """The image files in a folder and those below, in the order of their names."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    found = [
        Path(place) / name
        for place, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES
    ]
    if not found:
        raise InputError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return sorted(found)
