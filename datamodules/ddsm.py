"""Reading DDSM by its names of volumes, cases and films."""

import re
from pathlib import Path

import pandas as pd

from lit_dist.datamodules.film_files import find_films
from lit_dist.datamodules.films import Film
from lit_dist.errors import InputError

_NAME = re.compile(
    r"(?:(?P<volume>[a-z_]+_\d\d)-)?(?P<case>(?P<digitiser>[A-D])_\d{4}_\d)\.(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO)"
    r"(?:\.LJPEG)?(?:\.\d+)?(?:\.[A-Za-z]+)?"
)
_VOLUME = re.compile(r"(?P<kind>cancer|benign|benign_without_callbacks?|normal)_\d\d")
_DIAGNOSES = {"cancer": "malignant", "normal": "normal"}
_ORDER = ["normal", "benign", "malignant"]


def parse_name(path: str) -> dict[str, str] | None:
    """What a film's name says, and the folders that it lies in.

    Args:
        path: Such as ``cancer_07/case1141/A_1141_1.LEFT_CC.png``, or, all in one, as lists of the collection have it,
            ``benign_01-B_3102_1.LEFT_CC.LJPEG.1.jpg``.

    Returns:
        ``image``, ``patient``, ``site`` (the digitiser's letter), ``side``, ``view`` and ``diagnosis``; the last is
        empty if no volume is named. None if the name is no film's.

    Example:
        >>> parse_name("benign_01-B_3102_1.LEFT_CC.LJPEG.1.jpg")["diagnosis"]
        'benign'
    """
    *folders, name = Path(path).parts
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    volumes = [found["kind"] for part in (*folders, match["volume"] or "") if (found := _VOLUME.fullmatch(part))]
    return {
        "image": f"{match['case']}.{match['side']}_{match['view']}",
        "patient": match["case"].rpartition("_")[0],
        "site": match["digitiser"],
        "side": match["side"].lower(),
        "view": match["view"],
        "diagnosis": _DIAGNOSES.get(volumes[-1], "benign") if volumes else "",
    }


def read_ddsm(images: Path) -> pd.DataFrame:
    """Read the films of a folder and those below.

    Returns:
        One row a film: ``image, patient, side, view, diagnosis, site, film, origin``. Eighteen cases stand in two
        volumes; their films are taken once, with the worse diagnosis.

    Raises:
        InputError: If there are none.
    """
    rows = []
    for path in find_films(images):
        parsed = parse_name(str(path.relative_to(images)))
        if parsed is not None:
            rows.append({**parsed, "film": Film(str(path)), "origin": str(path)})
    if not rows:
        raise InputError(
            f"{images} holds no film named as DDSM's are, such as cancer_07/case1141/A_1141_1.LEFT_CC.png; convert the"
            " LJPEG files to 16-bit PNG first"
        )
    table = pd.DataFrame(rows)
    table["worst"] = table["diagnosis"].map({"": -1, **{name: n for n, name in enumerate(_ORDER)}})
    table = table.sort_values(["image", "worst"]).drop_duplicates("image", keep="last")
    worst = table.groupby("patient")["worst"].transform("max")
    table["diagnosis"] = worst.map({-1: "", **dict(enumerate(_ORDER))})
    return table.drop(columns="worst").assign(density="").reset_index(drop=True)
