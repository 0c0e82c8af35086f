"""Reading films from any table that has a column with their files and one with their labels."""

from pathlib import Path

import pandas as pd

from lit_dist.datamodules.film_files import check_inside
from lit_dist.datamodules.films import SUFFIXES, Film
from lit_dist.datamodules.label_table import read_table, refuse_repeats, row_number
from lit_dist.errors import InputError

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

    Returns:
        One row a film: ``image, patient, side, view, diagnosis, density, film, origin``, and ``site`` if asked for. A
        film that is not there has no ``film``.

    Raises:
        InputError: If the table is not such a one; the message names the row.
    """
    given = [patient_column, site_column, view_column]
    table = read_table(path, [image_column, label_column, *filter(None, given)])
    table = table.apply(lambda column: column.str.strip())
    refuse_repeats(table, image_column, path)
    origin = pd.Series([f"{path}, row {row_number(int(index))}" for index in table.index])
    for column in filter(None, (image_column, patient_column, site_column)):
        empty = origin[table[column] == ""]
        if len(empty):
            raise InputError(f"{empty.iloc[0]}: {column} is empty")
    labels = _labels(table[label_column], origin, density)
    films = {
        "image": table[image_column],
        "patient": table[patient_column or image_column],
        "side": "",
        "view": table[view_column].str.upper() if view_column else "",
        "diagnosis": "" if density else labels,
        "density": labels if density else "",
        "film": [_film(images, name, row) for name, row in zip(table[image_column], origin, strict=True)],
        "origin": origin,
    }
    return pd.DataFrame({**films, "site": table[site_column]} if site_column else films)


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


def _film(images: Path, name: str, origin: str) -> Film | None:
    path = images / name
    check_inside(path, images, f"{origin}: {name!r}")
    found = [path] if path.is_file() else [file for suffix in SUFFIXES if (file := Path(f"{path}{suffix}")).is_file()]
    if len(found) > 1:
        raise InputError(f"{origin}: both {found[0].name} and {found[1].name} are there; write the suffix")
    for file in found:
        check_inside(file, images, f"{origin}: {name!r}")
    return Film(found[0]) if found else None
