"""Reading films from any table that has a column with their files and one with their labels."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from lit_dist.datamodules.images.data_root import check_inside, is_foreign
from lit_dist.datamodules.images.image_table import find_files, parse_labels, read_image_table
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.datamodules.mammography.films import SUFFIXES, Film

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
    columns: Mapping[str, str | None],
    density: bool = False,
    crops: bool = False,
    cache_dir: Path | None = None,
) -> pd.DataFrame:
    """Read a table with one row a film.

    Args:
        path: The table, comma-separated.
        images: The folder that its files are in, or in folders below.
        columns: The names of the table's columns ``image``, ``label``, ``patient``, ``site`` and ``view`` (``CC`` or
            ``MLO``), as for ``read_image_table``. Without patients, each film is one.
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
    table = read_image_table(path, images, columns)
    known = _DIAGNOSES
    if density:
        known = _TISSUES if table["label"].str.lower().isin(["f", "g"]).any() else _DENSITIES
    labels = parse_labels(table, known, columns["label"])
    files = find_files(table, path, _FilmFiles(images, cache_dir).find)
    films = [None if file is None else Film(f"{images}/{file}", is_crop=crops) for file in files]
    result = table.drop(columns="label").assign(
        patient=table.get("patient", table["image"]),
        side="",
        view=table["view"].str.upper() if "view" in table else "",
        diagnosis="" if density else labels,
        density=labels if density else "",
        film=pd.Series(films, table.index, object),
    )
    return result.reset_index(drop=True)


class _FilmFiles:
    """Finds films by the names in a table: where that is a whole path, the file need not have an image's suffix."""

    def __init__(self, images: Path, cache_dir: Path | None) -> None:
        self.images = images
        self.cache_dir = cache_dir

    def find(self, name: str, origin: str) -> str | None:
        """The film's path below the folder, if it is there, without leaving the folder."""
        if is_foreign(name):
            return None
        path = self.images / name
        if not os.path.isfile(path):
            return self._below.find(name, origin)
        check_inside(path, self.images, f"{origin}: {name!r}")
        return os.path.normpath(name)  # so that a file has one name

    @cached_property
    def _below(self) -> NamedFiles:
        """The films in all folders, which are listed only where a name is not a path."""
        return NamedFiles.below(self.images, SUFFIXES, self.cache_dir)
