"""ImageTableDataModule: images that a table names, with any target: an age, a class, findings, a survival time."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from lit_dist.datamodules import table_columns
from lit_dist.datamodules.images.cached import CentreSquares
from lit_dist.datamodules.images.data_root import check_inside
from lit_dist.datamodules.images.decoding import SUFFIXES
from lit_dist.datamodules.images.image_index import ImageFile
from lit_dist.datamodules.images.image_table import find_files, read_image_table
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.datamodules.label_table import refuse_repeats
from lit_dist.datamodules.table_columns import ORIGIN, are_missing, plain
from lit_dist.tasks.named import TaskName, named_task
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

_TARGET = "target "  # what the columns of the target are called beside those of the image


class ImageTableDataModule(CentreSquares):
    """Images with a table that says of each what is predicted, for ``ImagePredictor`` or a ``FrozenEncoder``.

    Expects a CSV in UTF-8 with a header and one row an image, and the images in a folder. Images are cut to a square
    around their centre, resized, and kept in a cache. A batch is ``(images, targets)``: see ``ImageDataModule``, and
    the task for the targets.

    Args:
        root: The folder of the collection.
        target: The column of what is predicted. For several findings one column each, of 0 and 1, or one column with
            a ``separator``; for a survival time that of the time and that of the event (1, or 0 where it is censored).
        task: What is predicted: ``"classification"``, ``"ordinal"``, ``"multilabel"``, ``"regression"`` or
            ``"survival"``.
        classes: The names of the classes, grades or findings, in their order: the texts in the table.
        separator: What stands between the findings of one column, such as ``"|"``; an empty text if each letter is one.
            Findings that are not among ``classes`` are passed over, and that is said.
        labels: The table; ``root/labels.csv`` by default.
        images: The folder of the images; ``root/images`` or ``root`` by default.
        image_column: The table's column with the files, relative to ``images``, with or without suffix.
        patient_column: The table's column with the patients; without it, each image is one.
        site_column: The table's column with the institutions; without it, sites are simulated.
        missing: The texts that stand for a missing value, in letters of any size. An image whose target is missing is
            left out.
        **kwargs: Further arguments of ``CachedDataModule`` and ``ImageDataModule``.

    Raises:
        InputError: If a setting does not fit, or the table or an image is not as it should be; the message names the
            row or file.
    """

    def __init__(
        self,
        root: str | Path,
        target: str | list[str],
        task: TaskName = "classification",
        classes: list[str] | None = None,
        separator: str | None = None,
        labels: str | Path | None = None,
        images: str | Path | None = None,
        image_column: str = "image",
        patient_column: str | None = None,
        site_column: str | None = None,
        missing: Sequence[str] = ("", "?", "NA", "nan"),
        size: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(size, **kwargs)
        self._task = named_task(task, classes)
        self.class_names = classes or ()
        self.target = [target] if isinstance(target, str) else list(target)
        self.separator = separator
        most = {"multilabel": self._task.outputs, "survival": 2}.get(task, 1)
        if len(self.target) not in (1, most):
            raise InputError(f"target={self.target} has {len(self.target)} columns; task={task} takes {most}")
        if separator is not None and (task != "multilabel" or len(self.target) > 1):
            raise InputError(f"separator={separator!r} is for task=multilabel with one column of findings")
        root = Path(root)
        self.labels = Path(labels) if labels else root / "labels.csv"
        own = root / "images"
        self.images = Path(images) if images else own if os.path.isdir(own) else root
        if not images:
            check_inside(self.images, root, f"the folder {self.images}")
        named = {"image": image_column, "patient": patient_column, "site": site_column}
        self.columns = named | {f"{_TARGET}{number}": name for number, name in enumerate(self.target)}
        self.missing = {plain(text).lower() for text in missing}

    @property
    @override
    def learning_task(self) -> Task:
        return self._task

    # -- the table ---------------------------------------------------------------------------------------------------

    @override
    def read_images(self) -> pd.DataFrame:
        targets = [f"{_TARGET}{number}" for number in range(len(self.target))]
        table = read_image_table(self.labels, self.images, self.columns, may_be_empty=targets)
        refuse_repeats(table, "image", self.labels)
        self.say_patients(self.columns["patient"] is not None)
        absent = np.zeros(len(table), bool)
        for column in targets:
            absent |= are_missing(table[column].tolist(), self.missing)
        self.leave_out(table[absent], f"without a value of {' and '.join(self.target)}")
        table = table[~absent]
        if table.empty:
            raise InputError(f"no row of {self.labels} has a value of {' and '.join(self.target)}")
        files = find_files(table, self.labels, NamedFiles.below(self.images, SUFFIXES, self.cache_dir).find)
        prefix = f"{self.images}/"
        found = table.assign(
            path=pd.Series([file and ImageFile(prefix + file) for file in files], table.index, object),
            patient=table.get("patient", table["image"]),
            label=self._labels(table[targets].set_axis(self.target, axis=1).assign(**{ORIGIN: table["origin"]})),
        )
        return self.without_missing(found.drop(columns=targets), self.images).reset_index(drop=True)

    def _labels(self, table: pd.DataFrame) -> list[Any]:
        if self.separator is not None:
            [column] = self.target
            table = table.assign(**{column: self._findings(table[column].tolist())})
        return table_columns.labels(table, self.target, self._task, ())

    def _findings(self, cells: Sequence[str]) -> list[str]:
        """One 0 or 1 a finding, for each record."""
        found = [{part.strip() for part in (cell.split(self.separator) if self.separator else cell)} for cell in cells]
        known = set(self.class_names)
        others = sorted(set().union(*found) - known - {""})
        if absent := sorted(known - set().union(*found)):
            raise InputError(f"no row of {self.labels} has the finding {absent[0]!r} in {self.target[0]}; there are"
                             f" {', '.join(others)}"[:500])  # fmt: skip
        if others:
            rank_zero_info(f"Not predicted, since classes does not name them: {', '.join(others)}"[:500])
        return ["".join("01"[name in parts] for name in self.class_names) for parts in found]
