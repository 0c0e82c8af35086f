"""FundusDataModule: colour photographs of the retina, graded for diabetic retinopathy."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from typing_extensions import override

from lit_dist.datamodules.images import graham
from lit_dist.datamodules.images.augmentation import Augmentation, Augmenter
from lit_dist.datamodules.images.cached import CachedDataModule
from lit_dist.datamodules.images.data_root import check_inside
from lit_dist.datamodules.images.decoding import LEAST, SUFFIXES, decode
from lit_dist.datamodules.images.image_index import ImageFile
from lit_dist.datamodules.images.image_table import find_files, parse_labels, read_image_table
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.datamodules.label_table import refuse_repeats
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_choice

_SUFFIX = re.compile(r"\.[A-Za-z]+$")

GRADES = {str(grade): grade for grade in range(5)}
EYES = ("left", "right", "both")
Task = Literal["referable", "any", "grade"]

TASKS: dict[Task, tuple[dict[int, int], Sequence[str]]] = {
    "referable": ({0: 0, 2: 1, 3: 1, 4: 1}, ("healthy", "referable")),
    "any": ({0: 0, 1: 1, 2: 1, 3: 1, 4: 1}, ("healthy", "retinopathy")),
    "grade": ({0: 0, 1: 1, 2: 2, 3: 3, 4: 4}, ("none", "mild", "moderate", "severe", "proliferative")),
}
"""For each task, the class of each grade (grades that are not there are discarded), and the classes' names."""


class FundusDataModule(CachedDataModule):
    """Fundus photographs with their grades, as Kaggle's EyePACS has them, or any table with image and grade columns.

    Expects, as Kaggle's archives unpack::

        root/
          labels.csv or trainLabels.csv     image,level
          images/ or train/                 10_left.jpeg, 10_right.jpeg, ..., also in folders below

    An image's patient is what stands before ``_left`` or ``_right`` in its name, or a column of the table; failing
    both, each image is a patient. Photographs are prepared by ``lit_dist.datamodules.images.graham`` once, and kept in
    a cache.

    The data: Kaggle, "Diabetic Retinopathy Detection" (2015), photographs by EyePACS, under the competition's rules
    (research, no redistribution); https://www.kaggle.com/c/diabetic-retinopathy-detection. APTOS 2019 is read with
    ``image_column=id_code, grade_column=diagnosis``.

    Args:
        root: The folder of the collection.
        task: ``"referable"`` (grade 0 against 2 to 4; grade 1 is discarded, as in the paper), ``"any"`` (0 against 1
            to 4) or ``"grade"`` (five classes).
        eyes: Which photographs of a patient to keep: ``"left"``, ``"right"`` or ``"both"``.
        labels: The table; ``root/labels.csv`` or ``root/trainLabels.csv`` by default.
        images: The folder of the photographs; ``root/images``, ``root/train`` or ``root`` by default.
        image_column: The table's column with the images' names, with or without suffix.
        grade_column: The table's column with the grades, 0 to 4.
        patient_column: The table's column with the patients, if there is one.
        site_column: The table's column with the hospitals; without it, sites are simulated.
        radius: The retina's radius at which photographs are prepared, in pixels.
        augmentation: What is done to training images; by default every rotation and both flips.
        **kwargs: Further arguments of ``CachedDataModule`` and ``ImageDataModule``.

    Raises:
        InputError: If the table or an image is not as it should be; the message names the row or file.
    """

    def __init__(
        self,
        root: str | Path,
        task: Task = "referable",
        eyes: Literal["left", "right", "both"] = "both",
        labels: str | Path | None = None,
        images: str | Path | None = None,
        image_column: str = "image",
        grade_column: str = "level",
        patient_column: str | None = None,
        site_column: str | None = None,
        radius: int = 300,
        size: int = 256,
        augmentation: Augmenter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(size, augmentation=augmentation or Augmentation(fill=graham.GREY), **kwargs)
        check_choice(TASKS, task=task)
        check_choice(EYES, eyes=eyes)
        if radius < LEAST:
            raise InputError(f"radius={radius} must be at least {LEAST} pixels")
        root = Path(root)
        self.task = task
        self.class_of, self.class_names = TASKS[task]
        self.eyes = eyes
        self.labels = Path(labels) if labels else _first(root / "labels.csv", root / "trainLabels.csv")
        self.images = Path(images) if images else _first(root / "images", root / "train", root)
        if not images:
            check_inside(self.images, root, f"the folder {self.images}")
        self.columns = {"image": image_column, "grade": grade_column, "patient": patient_column, "site": site_column}
        self.radius = radius

    # -- the table ---------------------------------------------------------------------------------------------------

    @override
    def read_images(self) -> pd.DataFrame:
        table = read_image_table(self.labels, self.images, self.columns)
        grades = parse_labels(table, GRADES, self.columns["grade"], "grade")
        names = [_SUFFIX.sub("", name) if "." in name else name for name in table["image"].tolist()]
        sides = _sides(names)
        eyes = [eye for _, eye in sides]
        images = table.assign(image=names, eye=eyes, grade=grades, label=grades.map(self.class_of))
        if "patient" not in images:
            images["patient"] = [patient for patient, _ in sides]
        refuse_repeats(images, "image", self.labels)
        self.say_patients("patient" in table or any(eyes))
        return self._keep(images.assign(path=self._files(table)))

    def _files(self, table: pd.DataFrame) -> "pd.Series[Any]":
        """The file of each row; None where there is none."""
        named = NamedFiles.below(self.images, SUFFIXES, self.cache_dir)
        found = find_files(table, self.labels, named.find)
        unused = len(named.files) - sum(file is not None for file in found)
        if unused:
            rank_zero_warn(f"{unused} images in {self.images} have no row in {self.labels}; they are not used")
        prefix = f"{self.images}/"
        return pd.Series([file and ImageFile(prefix + file) for file in found], table.index, object)

    def _keep(self, images: pd.DataFrame) -> pd.DataFrame:
        if self.eyes != "both":
            other = images["eye"] != self.eyes
            self.leave_out(images[other], f"of the other eye (eyes={self.eyes})")
            images = images[~other]
            if images.empty:
                raise InputError(f"{self.labels}: no image is named ..._{self.eyes}; set eyes=both")
        graded = images["label"].notna()
        for grade, rows in images[~graded].groupby("grade"):
            self.leave_out(rows, f"of grade {grade} (task={self.task})")
        images = self.without_missing(images[graded], self.images)
        return images.astype({"label": "int64"}).reset_index(drop=True)

    # -- the pixels --------------------------------------------------------------------------------------------------

    @override
    def method(self) -> dict[str, Any]:
        return {"method": "graham", "version": graham.VERSION, "radius": self.radius}

    @override
    def _prepare(self, content: bytes) -> NDArray[np.uint8]:
        return graham.graham(decode(content), self.radius, self.size)


def _sides(names: Sequence[str]) -> list[tuple[str, str]]:
    """The patient and the eye of each image.

    Folders tell patients apart only where one name stands in several of them: a patient's eyes may lie in two folders.
    """
    alone = [name.replace("\\", "/").rpartition("/")[2] for name in names]
    return [_side(name) for name in (alone if len(set(alone)) == len(names) else names)]


def _side(name: str) -> tuple[str, str]:
    """The patient and the eye that a name tells; without an eye, the image is a patient of its own."""
    patient, _, eye = name.rpartition("_")
    return (patient, eye) if patient and eye in ("left", "right") else (name, "")


def _first(*paths: Path) -> Path:
    """The first path that exists, or the last one."""
    return next((path for path in paths if os.path.exists(path)), paths[-1])
