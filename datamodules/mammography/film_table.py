"""Reading films from any table that has a column with their files and one with their labels."""

import os
from functools import cached_property
from pathlib import Path

import pandas as pd

from lit_dist.datamodules.images.data_root import check_inside, refuse_outside, unreadable
from lit_dist.datamodules.images.image_index import ImageIndex
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.datamodules.images.other_programs import is_foreign
from lit_dist.datamodules.label_table import read_table, refuse_empty, refuse_repeats, row_number
from lit_dist.datamodules.mammography.films import SUFFIXES, Film
from lit_dist.utils.errors import InputError

_DIAGNOSES = {
    **dict.fromkeys(("normal", "norm", "n"), "normal"),
    **dict.fromkeys(("benign", "benign_without_callback", "b"), "benign"),
    **dict.fromkeys(("malignant", "cancer", "m"), "malignant"),
    "0": "0",
    "1": "1",
}
_DENSITIES = {**{str(n): str(n) for n in range(1, 5)}, **dict(zip("abcd", "1234", strict=True))}
_TISSUES = {letter.lower(): letter for letter in "FGD"}


def read_film_table(
    path: Path,
    images: Path,
    image_column: str,
    label_column: str,
    patient_column: str | None = None,
    site_column: str | None = None,
    view_column: str | None = None,
    density: bool = False,
    crops: bool = False,
    cache_dir: Path | None = None,
) -> pd.DataFrame:
    """Read a table with one row a film.

    Args:
        path: The table, comma-separated.
        images: The folder that its files are in, or in folders below.
        image_column: Has the files, relative to ``images``, with or without suffix.
        label_column: Has what ``density`` says.
        patient_column: Has the patients; without it, each film is a patient.
        site_column: Has the institutions.
        view_column: Has the views, ``CC`` or ``MLO``.
        density: Whether labels are densities, 1 to 4 or A to D by BI-RADS, or F, G and D as in mini-MIAS. Otherwise
            they are normal, benign and malignant, or 0 and 1.
        crops: Whether the files are parts of films, cut out already.
        cache_dir: Where the list of files is kept.

    Returns:
        One row a film: ``image, patient, side, view, diagnosis, density, film, origin``, and ``site`` if asked for. A
        film that is not there has no ``film``.

    Raises:
        InputError: If the table is not such a one; the message names the row.
    """
    given = [patient_column, site_column, view_column]
    table = read_table(path, [image_column, label_column, *filter(None, given)])
    for column in filter(None, (image_column, patient_column, site_column)):
        refuse_empty(table, column, path)
    refuse_outside(table[image_column], images, str(path))
    table["origin"] = [f"{path}, row {row_number(index)}" for index in table.index.tolist()]
    origin, find = table["origin"], _Finder(images, crops, cache_dir)
    labels = _labels(table[label_column], origin, density)
    films = {
        "image": table[image_column],
        "patient": table[patient_column or image_column],
        "side": "",
        "view": table[view_column].str.upper() if view_column else "",
        "diagnosis": "" if density else labels,
        "density": labels if density else "",
        "film": [find.film(*row) for row in zip(table[image_column].tolist(), origin.tolist(), strict=True)],
        "origin": origin,
    }
    result = pd.DataFrame({**films, "site": table[site_column]} if site_column else films)
    names = result["image"].tolist()
    files = [name if film is None else film.path for name, film in zip(names, result["film"], strict=True)]
    refuse_repeats(result.assign(file=files), "file", path)
    return result.reset_index(drop=True)


def _labels(column: "pd.Series[str]", origin: "pd.Series[str]", density: bool) -> "pd.Series[str]":
    values = column.str.lower()
    known = _DIAGNOSES
    if density:
        known = _TISSUES if values.isin(["f", "g"]).any() else _DENSITIES
    wrong = origin[~values.isin(known)]
    if len(wrong):
        raise InputError(
            f"{wrong.iloc[0]}: {column.name} is {column[wrong.index[0]]!r}, not one of {', '.join(known)}"
            f" ({len(wrong)} such rows)"
        )
    return values.map(known)


class _Finder:
    """Finds films by the names in a table, without leaving their folder. It reads each folder once.

    A file need not have the suffix of an image where the table names all of its path.
    """

    def __init__(self, images: Path, crops: bool, cache_dir: Path | None) -> None:
        self.images = images
        self.crops = crops
        self.cache_dir = cache_dir
        self._folders: dict[str, tuple[str, dict[str, bool]]] = {}

    def film(self, name: str, origin: str) -> Film | None:
        """The film of a name with or without suffix, if it is there."""
        if is_foreign(name):
            return None
        folder, _, file = f"{self.images}/{name}".rpartition("/")
        if folder not in self._folders:
            check_inside(Path(folder), self.images, f"{origin}: {name!r}")
            self._folders[folder] = os.path.normpath(folder), _files(folder)  # so that a file has one name
        folder, files = self._folders[folder]
        if file in files:
            path = f"{folder}/{file}"
            if files[file]:
                check_inside(Path(path), self.images, f"{origin}: {name!r}")
            return Film(path, is_crop=self.crops)
        found = self._below.find(name, origin)
        if found is None or not os.path.isfile(path := f"{self.images}/{found}"):  # a link may lead nowhere
            return None
        return Film(path, is_crop=self.crops)

    @cached_property
    def _below(self) -> NamedFiles:
        """The films in all folders, which are listed only where a name is not a path."""
        index = ImageIndex(self.images, SUFFIXES, self.cache_dir)
        files = index.files()
        index.save()
        index.report()
        return NamedFiles(files, self.images)


def _files(folder: str) -> dict[str, bool]:
    """The names of a folder's files, and whether each is a link; nothing if the folder is not there."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_symlink() for entry in entries if _is_file(entry)}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise unreadable(folder, error) from None


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a file, or a link to one; what a link that cannot be followed leads to is none."""
    return entry.is_file(follow_symlinks=False) or os.path.isfile(entry)
