"""Reading mini-MIAS: its list of films and findings, and its images."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lit_dist.datamodules.label_table import read_lines
from lit_dist.datamodules.mammography.breast import square_around
from lit_dist.datamodules.mammography.films import WITHOUT_FINDING, Film, find_films
from lit_dist.utils.errors import InputError

LISTS = ("Info.txt", "README", "README.txt", "README.md")
_SIDE = 1024  # pixels, of every film
_LEAST = 112  # pixels: half the side of the smallest part of a film that is shown around a finding
_ORDER = {"normal": 0, "benign": 1, "malignant": 2}
_FILM = re.compile(r"(mdb\d{3})\s+(.*\S)")
_ENTRY = re.compile(
    r"(?P<density>[FGD])\s+(?P<finding>CALC|CIRC|SPIC|MISC|ARCH|ASYM|NORM)"
    r"(?:\s+(?P<severity>[BM])(?:\s+(?P<x>\d+)\s+(?P<y>\d+)\s+(?P<radius>\d+)|\s+\*NOTE 3\*?)?)?"
)


def read_list(path: Path) -> pd.DataFrame:
    """Read the list of films and findings; of the whole read-me, the lines that begin with a film's name.

    Returns:
        One row a finding, or a film without one: ``image, patient, side, density, diagnosis, x, y, radius, row``, with
        ``y`` counted from the top, in pixels of the original films. In the file it counts from the bottom. Findings
        whose place is not given have NaN there.

    Raises:
        InputError: If the file is missing or a line cannot be read; the message names the line.
    """
    rows = []
    for number, line in enumerate(read_lines(path, ", the list of films"), start=1):
        film = _FILM.fullmatch(line.strip())
        if film is None:
            continue
        entry = _ENTRY.fullmatch(film[2])
        if entry is None or (entry["finding"] == "NORM") != (entry["severity"] is None):
            raise InputError(f"{path}, line {number}: {line.strip()!r} is not a film's tissue, finding and place")
        rows.append({"image": film[1], "row": number, **entry.groupdict()})
    if not rows:
        raise InputError(f"{path} lists no films, such as 'mdb001 G CIRC B 535 425 197'")
    table = pd.DataFrame(rows)
    _refuse_repeats(table, path)
    number_of = table["image"].str[3:].astype("int64")
    for column in ("x", "y", "radius"):
        table[column] = pd.to_numeric(table[column]).astype("float64")
    return table.assign(
        patient=((number_of + 1) // 2).astype(str),
        side=(number_of % 2).map({0: "left", 1: "right"}),
        diagnosis=table["severity"].map({"B": "benign", "M": "malignant"}).fillna("normal"),
        y=_SIDE - table["y"],
    )[["image", "patient", "side", "density", "diagnosis", "x", "y", "radius", "row"]]


def read_mini_mias(path: Path, images: Path, crop: bool = False) -> pd.DataFrame:
    """Read the collection's films, or the surroundings of their findings.

    Args:
        path: The list: ``Info.txt``, or the read-me that it is a part of.
        images: The folder with the films, PGM or PNG, of the original size or reduced.
        crop: Whether to show, of films whose finding has a place, that place alone; one row a finding.

    Returns:
        One row an image: ``image, patient, side, view, diagnosis, density, film, origin``. A film with several
        findings has the worst one's diagnosis. A film that is not there has no ``film``.
        ``attrs`` has ``WITHOUT_FINDING``.

    Raises:
        InputError: If the list cannot be read, or two files have one film's name.
    """
    table = read_list(path)
    table["origin"] = [f"{path}, line {row}" for row in table["row"]]
    listed = set(table["image"])
    files = _by_name(file for file in find_films(images) if file.stem in listed)
    without = 0
    if crop:
        table = table[table["x"].notna()].copy()
        without = len(listed) - table["image"].nunique()
        places = zip(table["image"], table["x"], table["y"], table["radius"], strict=True)
        table["film"] = pd.Series([_around(files.get(name), *place) for name, *place in places], table.index, object)
        table["image"] += "_" + table.groupby("image").cumcount().astype(str)
    else:
        table["worst"] = table["diagnosis"].map(_ORDER)
        table = table.sort_values("worst", kind="stable").drop_duplicates("image", keep="last").sort_values("image")
        table["film"] = table["image"].map({name: Film(str(path)) for name, path in files.items()}).astype(object)
    columns = ["image", "patient", "side", "view", "diagnosis", "density", "film", "origin"]
    result = table.assign(view="MLO")[columns].reset_index(drop=True)
    result.attrs[WITHOUT_FINDING] = without
    return result


def _by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names without suffix, of which no two may be the same."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise InputError(
                f"both {found[path.stem]} and {path} are there; remove one, or name the folder with images"
            )
        found[path.stem] = path
    return found


def _around(film: Path | None, x: float, y: float, radius: float) -> Film | None:
    """The square around a finding, half as wide again as its circle."""
    if film is None:
        return None
    return Film(str(film), square_around((x, y), max(1.5 * radius, _LEAST), (_SIDE, _SIDE)))


def _refuse_repeats(table: pd.DataFrame, path: Path) -> None:
    """A film with several findings has several lines, but not twice the same one, nor one that says it is normal."""
    several = table["image"].duplicated(keep=False)
    wrong = table[(several & (table["finding"] == "NORM")) | table.drop(columns="row").duplicated()]
    if len(wrong):
        raise InputError(f"{path}, line {wrong['row'].iloc[0]} repeats {wrong['image'].iloc[0]!r}; remove one line")
