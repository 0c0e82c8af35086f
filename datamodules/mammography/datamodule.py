"""MammographyDataModule: mammograms with diagnoses or breast densities."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typing_extensions import override

from lit_dist.datamodules.images.augmentation import Augmentation, Augmenter
from lit_dist.datamodules.images.cached import CachedDataModule
from lit_dist.datamodules.mammography import breast
from lit_dist.datamodules.mammography.cbis_ddsm import FILES, read_cbis_ddsm
from lit_dist.datamodules.mammography.ddsm import read_ddsm
from lit_dist.datamodules.mammography.film_table import read_film_table
from lit_dist.datamodules.mammography.films import WITHOUT_FINDING, Film, decode_film, split_content
from lit_dist.datamodules.mammography.mini_mias import LISTS, read_mini_mias
from lit_dist.utils.atomic_write import open_file
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_choice

Task = Literal["malignant", "malignant_benign", "abnormal", "density"]
Format = Literal["cbis_ddsm", "ddsm", "mini_mias", "table"]
Views = Literal["CC", "MLO", "all"]

TASKS: dict[Task, tuple[Mapping[str, int], Sequence[str]]] = {
    "malignant": ({"normal": 0, "benign": 0, "malignant": 1, "0": 0, "1": 1}, ("other", "malignant")),
    "malignant_benign": ({"benign": 0, "malignant": 1, "0": 0, "1": 1}, ("benign", "malignant")),
    "abnormal": ({"normal": 0, "benign": 1, "malignant": 1, "0": 0, "1": 1}, ("normal", "abnormal")),
    "density": ({"1": 0, "2": 1, "3": 2, "4": 3}, ("fatty", "scattered", "heterogeneous", "extreme")),
}
"""For each task, the class of each diagnosis or density (others are discarded), and the classes' names."""

TISSUES: tuple[Mapping[str, int], Sequence[str]] = ({"F": 0, "G": 1, "D": 2}, ("fatty", "glandular", "dense"))
"""The same for the densities of mini-MIAS."""


class MammographyDataModule(CachedDataModule):
    """Mammograms of CBIS-DDSM, DDSM or mini-MIAS as they are published, or of any table of films and labels.

    Each film is prepared by ``lit_dist.datamodules.mammography.breast`` once, and kept in a cache: the breast
    alone, the chest wall at the left. All films of a patient stay together. Files are DICOM, PGM, PNG, TIFF or JPEG, of
    8 or 16 bits.

    ``cbis_ddsm``: the four ``*_case_description_*_set.csv`` in ``root`` (or ``labels``), and TCIA's folders of DICOM
    files anywhere below ``root``, found by the UIDs in their names, or, failing that, by those in the files. Sites are
    simulated. Lee et al., Scientific Data 2017, https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY, CC BY 3.0.

    ``ddsm``: ``cancer_07/case1141/A_1141_1.LEFT_CC.png`` anywhere below ``root``, or names with the volume such as
    ``cancer_07-A_1141_1.LEFT_CC.png``. The collection comes as ``.LJPEG``, a format of its own, which is to be
    converted to 16-bit PNG. The diagnosis is that of the volume, so it is the case's: of a woman with cancer, the other
    breast counts as malignant, too. Densities and the places of findings are read from the ``.ics`` and ``.OVERLAY``
    files, which are to lie beside the films. The letter says which scanner digitised the film, the nearest to a
    hospital that the names give: it is the site, of which there are four, A to D. Heath et al., IWDM 2000,
    http://www.eng.usf.edu/cvprg/mammography/database.html, for research, with citation.

    ``mini_mias``: ``Info.txt`` (or the ``README`` with the list) and ``mdb001.pgm`` and so on. Two films a patient;
    sites are simulated. Suckling et al., Excerpta Medica 1069, 1994, http://peipa.essex.ac.uk/info/mias.html, for
    research alone.

    ``table``: ``root/labels.csv``, or ``labels``, with the columns named below.

    Augmentation turns by up to 10 degrees and shifts by up to 5 %, about what positioning differs by. It does not
    mirror: the preparation has brought all breasts to one side, and no film that is tested looks otherwise.

    Args:
        root: The folder of the collection.
        format: One of those above; by default it is told by the files in ``root``.
        task: ``"malignant"`` (against the rest), ``"malignant_benign"`` (without normal films), ``"abnormal"``
            (against normal) or ``"density"`` (four classes of BI-RADS, three of mini-MIAS).
        views: Which films of a patient to keep: ``"CC"``, ``"MLO"`` or ``"all"``.
        crop: Whether to show findings alone, one an image: the published crops of CBIS-DDSM, or the surroundings of
            what mini-MIAS gives a place for or DDSM an outline of. Films without a finding are left out. Of a table:
            its files are parts of films, cut out already, which are shown whole and as they lie.
        labels: The folder of CBIS-DDSM's tables, mini-MIAS' list, or the table.
        images: The folder of the images; ``root`` by default.
        published_test: Whether to test on the patients that CBIS-DDSM has in its test sets. (31 of them are in the
            other finding's training set; all their images are for the test.)
        image_column: The table's column with the files, relative to ``images``.
        label_column: The table's column with the diagnoses or densities.
        patient_column: The table's column with the patients; without it, each film is one.
        site_column: The table's column with the institutions; without it, sites are simulated.
        view_column: The table's column with the views.
        augmentation: What is done to training images; by default as said above.
        **kwargs: Further arguments of ``CachedDataModule`` and ``ImageDataModule``.

    Raises:
        InputError: If a list or an image is not as it should be; the message names the row or file.
    """

    source = "film"

    def __init__(
        self,
        root: str | Path,
        format: Format | None = None,
        task: Task = "malignant",
        views: Views = "all",
        crop: bool = False,
        labels: str | Path | None = None,
        images: str | Path | None = None,
        published_test: bool = False,
        image_column: str = "image",
        label_column: str = "label",
        patient_column: str | None = None,
        site_column: str | None = None,
        view_column: str | None = None,
        size: int = 256,
        augmentation: Augmenter | None = None,
        **kwargs: Any,
    ) -> None:
        small = Augmentation(rotation=10, horizontal_flip=False, vertical_flip=False, shift=0.05)
        super().__init__(size, augmentation=augmentation or small, **kwargs)
        self.root = Path(root)
        self.labels = Path(labels) if labels else None
        self.format = format or _told(self.root, self.labels)
        self.task: Task = task
        self.views = views
        self.crop = crop
        self.images = Path(images) if images else self.root
        self.published_test = published_test
        self.columns = {
            "image": image_column,
            "label": label_column,
            "patient": patient_column,
            "site": site_column,
            "view": view_column,
        }
        self._check_settings()
        tissues = task == "density" and self.format == "mini_mias"
        self.class_of, self.class_names = TISSUES if tissues else TASKS[task]

    def _check_settings(self) -> None:
        check_choice(TASKS, task=self.task)
        check_choice(get_args(Format), format=self.format)
        check_choice(get_args(Views), views=self.views)
        if not os.path.isdir(self.root):  # where a trained model is used, the collection need not be
            return
        if self.crop and self.task == "abnormal" and self.format != "table":
            raise InputError("crop=true leaves normal films out, so task=abnormal has nothing to tell apart")
        if self.published_test and self.format != "cbis_ddsm":
            raise InputError(f"published_test=true is for cbis_ddsm; {self.format} has no test set of its own")

    # -- the table ---------------------------------------------------------------------------------------------------

    @override
    def read_images(self) -> pd.DataFrame:
        table = self._read()
        if table.attrs.get(WITHOUT_FINDING):
            self.left_out_of["", "without a finding that has a place (crop=true)"] += table.attrs[WITHOUT_FINDING]
        column = "density" if self.task == "density" else "diagnosis"
        if self.task == "density" and table["density"].isin(["F", "G"]).any():
            self.class_of, self.class_names = TISSUES
        nameless = table["origin"][table[column] == ""]
        if len(nameless):
            why = "; films are to lie in a volume's folder, such as benign_01, with their case's .ics beside them"
            raise InputError(
                f"{nameless.iloc[0]}: it has no {column} ({len(nameless)} such){why if self.format == 'ddsm' else ''}"
            )
        if self.views != "all":
            other = table["view"] != self.views
            self.leave_out(table[other], f"of other views (views={self.views})")
            table = table[~other]
            if table.empty:
                raise InputError(f"{self.root} has no {self.views} views; set views=all, or the table's view_column")
        labels = table[column].map(self.class_of)
        for found, rows in table[labels.isna()].groupby(column):
            self.leave_out(rows, f"of {column} {found} (task={self.task})")
        table = self.without_missing(table.assign(label=labels)[labels.notna()], self.images)
        if table.empty:
            raise InputError(f"{self.root} has no image that task={self.task} can use")
        return table.astype({"label": "int64"}).reset_index(drop=True)

    def _read(self) -> pd.DataFrame:
        if self.format == "cbis_ddsm":
            table = read_cbis_ddsm(self.labels or self.root, self.images, self.crop)
            if self.published_test and not table["held_out"].any():
                folder = self.labels or self.root
                raise InputError(f"published_test=true needs one of {' and '.join(FILES[1::2])} in {folder}")
            return table if self.published_test else table.drop(columns="held_out")
        if self.format == "mini_mias":
            return read_mini_mias(self.labels or _list(self.root), self.images, self.crop)
        if self.format == "ddsm":
            return read_ddsm(self.images, self.task == "density", self.crop, self.on_error == "skip")
        self.say_patients(self.columns["patient"] is not None)
        path = self.labels or self.root / "labels.csv"
        return read_film_table(path, self.images, self.columns, self.task == "density", self.crop, self.cache_dir)

    # -- the pixels --------------------------------------------------------------------------------------------------

    @override
    def method(self) -> dict[str, Any]:
        return {"method": "breast", "version": breast.VERSION}

    @override
    def source_of(self, path: str) -> Film:
        """A whole film; of a run on parts of films, a part that was cut out already and lies as its film did."""
        return Film(path, is_crop=self.crop)

    @override
    def _prepare(self, content: bytes) -> NDArray[np.uint8]:
        film, content = split_content(content)
        greys = decode_film(content)
        if film.is_crop:
            return breast.prepare_crop(greys, self.size, film.mirrored)
        return breast.prepare_breast(greys, self.size, film.box)


def _told(root: Path, labels: Path | None) -> Format:
    """The format that a folder's files show."""
    folder = labels or root
    if any(os.path.isfile(folder / name) for name in FILES):
        return "cbis_ddsm"
    if labels is not None:
        return "table" if labels.suffix.lower() == ".csv" else "mini_mias"
    if os.path.isfile(_list(root)):
        return "mini_mias"
    return "table" if os.path.isfile(root / "labels.csv") else "ddsm"


def _list(root: Path) -> Path:
    """The first of mini-MIAS' lists that is there and lists films."""
    for name in LISTS:
        path = root / name
        if os.path.isfile(path) and b"mdb001 " in _start(path):
            return path
    return root / LISTS[0]


def _start(path: Path) -> bytes:
    """The first part of a file; nothing if it may not be read, which is said when it is needed."""
    try:
        with open_file(path) as file:
            return file.read(1_000_000)
    except OSError:
        return b""
