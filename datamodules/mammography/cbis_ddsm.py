"""Reading CBIS-DDSM: its case description files, and its images as they come from TCIA."""

import os
import re
from pathlib import Path

import pandas as pd

from lit_dist.datamodules.label_table import read_table, refuse_repeats, row_number
from lit_dist.datamodules.mammography.dicom import read_header
from lit_dist.datamodules.mammography.films import Film, find_films, size_of
from lit_dist.utils.errors import InputError

FILES = [f"{kind}_case_description_{part}_set.csv" for kind in ("mass", "calc") for part in ("train", "test")]
_COLUMNS = {
    "patient_id": "patient",
    "left or right breast": "side",
    "image view": "view",
    "abnormality id": "abnormality",
    "pathology": "pathology",
    "image file path": "film",
    "cropped image file path": "crop",
    "ROI mask file path": "mask",
}
_PATHOLOGIES = {"MALIGNANT": "malignant", "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"}
_SEVERITY = ["normal", "benign", "malignant"]
_CASE = re.compile(r"(Mass|Calc)-(Training|Test)_P_\d{5}_(LEFT|RIGHT)_(CC|MLO)(_\d+)?")
_UID = re.compile(r"\d+(\.\d+)+")


def read_descriptions(path: Path) -> pd.DataFrame:
    """Read one case description file: one row an abnormality in a view.

    The files break lines inside quoted paths, and call a column ``breast_density`` or ``breast density``.

    Returns:
        The columns ``patient, side, view, abnormality, diagnosis, density, film, crop, mask, row``; the last three of
        them that are paths are as published.

    Raises:
        InputError: If the file is not such a table; the message names the row as a spreadsheet counts it.
    """
    table = read_table(path, list(_COLUMNS)).rename(columns={"breast density": "breast_density", **_COLUMNS})
    if "breast_density" not in table:
        raise InputError(f"{path} has no column 'breast_density' or 'breast density'")
    table["row"] = [row_number(int(index)) for index in table.index]
    names = table["patient"] + " " + table["side"] + " " + table["view"] + " " + table["abnormality"]
    refuse_repeats(table.assign(name=names), "name", path)
    for column, pattern in (
        ("patient", r"P_\d{5}"),
        ("side", "LEFT|RIGHT"),
        ("view", "CC|MLO"),
        ("pathology", "|".join(_PATHOLOGIES)),
        ("film", rf"{_CASE.pattern}/{_UID.pattern}/{_UID.pattern}/[\w.-]+"),
    ):
        wrong = table[~table[column].str.fullmatch(pattern)]
        if len(wrong):
            raise InputError(
                f"{path}, row {wrong['row'].iloc[0]}: {column} is {wrong[column].iloc[0]!r}, which CBIS-DDSM has not"
            )
    table = table.assign(diagnosis=table["pathology"].map(_PATHOLOGIES), density=table["breast_density"])
    return table[["patient", "side", "view", "abnormality", "diagnosis", "density", "film", "crop", "mask", "row"]]


def read_cbis_ddsm(folder: Path, images: Path, crop: bool = False) -> pd.DataFrame:
    """Read the collection's films, or its crops of abnormalities.

    Args:
        folder: Where the four case description files are, or some of them.
        images: The folder with the images, in any of the trees that TCIA's programs make, or converted to PNG.
        crop: Whether to take the published crops, one an abnormality.

    Returns:
        One row an image: ``image, patient, side, view, diagnosis, density, film, origin, held_out``. A film that is
        not there has no ``film``. A film has the worst diagnosis that the breast has in that view, in any of the
        files. A patient with an image in a published test set is held out with all images.

    Raises:
        InputError: If a file is not as published, or an image cannot be told from another one.
    """
    paths = [folder / name for name in FILES if os.path.isfile(folder / name)]
    if not paths:
        raise InputError(f"{folder} has none of CBIS-DDSM's tables: {', '.join(FILES)}")
    tables = [read_descriptions(path).assign(table=str(path)) for path in paths]
    rows = pd.concat(tables, ignore_index=True)
    rows["origin"] = [f"{path}, row {row}" for path, row in zip(rows["table"], rows["row"], strict=True)]
    tests = [str(path) for path in paths if "_test_" in path.name]
    rows["held_out"] = rows["patient"].isin(rows.loc[rows["table"].isin(tests), "patient"])
    found = _Tree(images, rows)
    if crop:
        rows["image"] = [f"{path.split('/')[0]}_{n}" for path, n in zip(rows["film"], rows["abnormality"], strict=True)]
        films = [
            found.crop(crop, mask, side == "RIGHT", origin)
            for crop, mask, side, origin in zip(rows["crop"], rows["mask"], rows["side"], rows["origin"], strict=True)
        ]
    else:
        severity = rows["diagnosis"].map(_SEVERITY.index)
        worst = severity.groupby([rows["patient"], rows["side"], rows["view"]]).transform("max")
        rows = rows.assign(diagnosis=worst.map(dict(enumerate(_SEVERITY)))).drop_duplicates("film")
        rows["image"] = rows["film"].str.split("/").str[0]
        films = [found.film(film, origin) for film, origin in zip(rows["film"], rows["origin"], strict=True)]
    rows["film"] = pd.Series(films, rows.index, object)
    rows["side"] = rows["side"].str.lower()
    names = ["image", "patient", "side", "view", "diagnosis", "density", "film", "origin", "held_out"]
    return rows[names].reset_index(drop=True)


class _Tree:
    """The images below a folder, by the UIDs and case names in their paths, and by the UIDs inside them.

    TCIA's programs have named folders after UIDs or descriptions, and files ``000000.dcm`` or ``1-1.dcm``; the CSV
    files have yet other names. A series' UID, and the name of a film's case, stay what they are.

    Args:
        folder: The folder.
        rows: What ``read_descriptions`` gave: with the cases and UIDs that count as names.
    """

    def __init__(self, folder: Path, rows: pd.DataFrame) -> None:
        self.folder = folder
        self.known: dict[str, list[Path]] = {}
        self.nameless: list[Path] = []
        published = (path.split("/") for column in ("film", "crop", "mask") for path in rows[column])
        names = {part for parts in published for part in (parts[0], *parts[2:3])}
        for path in find_films(folder):
            inner = path.relative_to(folder)
            keys = names.intersection([*inner.parent.parts, inner.stem])
            for key in keys:
                self.known.setdefault(key, []).append(path)
            if not keys and path.suffix.lower() in (".dcm", ".dicom"):
                self.nameless.append(path)

    def _files(self, published: str) -> list[Path]:
        case, _, series, _ = published.split("/")
        found = self.known.get(series) or self.known.get(case)
        if not found and self.nameless:
            self._read_headers()
            found = self.known.get(series)
        return found or []

    def _read_headers(self) -> None:
        for path in self.nameless:
            try:
                series = read_header(path).series
            except ValueError:
                continue  # it is in nobody's way unless it is missed, and then that is said
            self.known.setdefault(series, []).append(path)
        self.nameless = []

    def film(self, published: str, origin: str) -> Film | None:
        files = self._files(published)
        if len(files) > 1:
            raise InputError(f"{origin}: both {files[0]} and {files[1]} may be its film; keep one of them")
        return Film(str(files[0])) if files else None

    def crop(self, crop: str, mask: str, mirrored: bool, origin: str) -> Film | None:
        """The smallest file that the two columns, often swapped, may mean: a mask has the size of the film."""
        for published in (crop, mask):
            if len(published.split("/")) != 4:
                raise InputError(f"{origin}: {published!r} is not CASE/STUDY/SERIES/FILE")
        files = sorted({*self._files(crop), *self._files(mask)})
        if len(files) < 2:
            return None
        return Film(str(min(files, key=_area)), is_crop=True, mirrored=mirrored)


def _area(path: Path) -> int:
    try:
        height, width = size_of(path)
    except ValueError:
        return 0  # what cannot be read is taken for the crop, so that it is refused, or left out, with its name
    return height * width
