"""Reading DDSM by its names of volumes, cases and films."""

import os
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.datamodules.images.cache import shown
from lit_dist.datamodules.mammography.breast import Box
from lit_dist.datamodules.mammography.ddsm_case import Case, read_case, read_findings
from lit_dist.datamodules.mammography.films import WITHOUT_FINDING, Film, find_films
from lit_dist.utils.errors import InputError

_NAME = re.compile(
    r"(?:(?P<volume>[a-z_]+_\d\d)-)?(?P<case>(?P<digitiser>[A-D])_\d{4}_\d)\.(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO)"
    r"(?:\.LJPEG)?(?:\.\d+)?(?:\.[A-Za-z]+)?"
)
_VOLUME = re.compile(r"(?P<kind>cancer|benign|benign_without_callbacks?|normal)_\d\d")
_DIAGNOSES = {"cancer": "malignant", "normal": "normal"}
_ORDER = ["normal", "benign", "malignant"]

_Content = TypeVar("_Content")


def parse_name(path: str) -> dict[str, str] | None:
    """What a film's name says, and the folders that it lies in.

    Args:
        path: Such as ``cancer_07/case1141/A_1141_1.LEFT_CC.png``, or, all in one, as lists of the collection have it,
            ``benign_01-B_3102_1.LEFT_CC.LJPEG.1.jpg``.

    Returns:
        ``image``, ``patient``, ``site`` (the digitiser's letter), ``side``, ``view`` and ``diagnosis``; the last is
        empty if no volume is named. None if the name is not a film's.

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


def read_ddsm(images: Path, density: bool = False, crop: bool = False, skip: bool = False) -> pd.DataFrame:
    """Read the films of a folder and those below.

    Args:
        images: The folder.
        density: Whether to read densities, from the ``.ics`` beside the films of each case.
        crop: Whether to show findings alone, one a row, by the outlines in the ``.OVERLAY`` beside a film and the sizes
            in the case's ``.ics``. A film without one has no finding. Findings of unproven pathology are left out.
        skip: Whether films are left out, with a warning, if such a file beside them is not as it should be.

    Returns:
        One row an image: ``image, patient, side, view, diagnosis, density, site, film, origin``. The diagnosis of a
        film is that of its volume, of a finding its own. Eighteen cases stand in two volumes; their films are taken
        once, with the worse diagnosis.

    Raises:
        InputError: If there are none, or a file beside them is not as it should be.
    """
    failures: list[InputError] | None = [] if skip else None
    table = _read(images, density, crop, failures)
    if failures:
        if table.empty:
            raise failures[0]
        reasons = shown(list(map(str, failures)))
        rank_zero_warn(f"{len(failures)} files beside films cannot be used; their films are left out:\n{reasons}")
    return table


def _read(images: Path, density: bool, crop: bool, failures: list[InputError] | None) -> pd.DataFrame:
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
    table = _once(pd.DataFrame(rows)).assign(density="")
    if not density and not crop:
        return table
    files = [_case_file(film, image) for film, image in zip(table["film"], table["image"], strict=True)]
    read = {path: _attempt(partial(read_case, path, images), failures) for path in dict.fromkeys(files)}
    found = [read[path] for path in files]
    cases = [case for case in found if case is not None]
    table = table[[case is not None for case in found]].assign(density=[case.density for case in cases])
    return _findings(table, cases, images, failures) if crop else table


def _attempt(read: Callable[[], _Content], failures: list[InputError] | None) -> _Content | None:
    """What is read; None if that cannot be, and failures are kept instead of raised."""
    try:
        return read()
    except InputError as error:
        if failures is None:
            raise
        failures.append(error)
        return None


def _once(table: pd.DataFrame) -> pd.DataFrame:
    table["worst"] = table["diagnosis"].map({"": -1, **{name: n for n, name in enumerate(_ORDER)}})
    table = table.sort_values(["image", "worst"]).drop_duplicates("image", keep="last")
    worst = table.groupby("patient")["worst"].transform("max")
    table["diagnosis"] = worst.map({-1: "", **dict(enumerate(_ORDER))})
    return table.drop(columns="worst").reset_index(drop=True)


def _case_file(film: Film, image: str) -> Path:
    case = image.partition(".")[0].replace("_", "-")
    return Path(film.path).with_name(f"{case}.ics")


def _findings(
    table: pd.DataFrame, cases: Sequence[Case], root: Path, failures: list[InputError] | None
) -> pd.DataFrame:
    """One row a finding, of the films that have some."""
    rows: list[dict[Hashable, Any]] = []
    for row, case in zip(table.to_dict("records"), cases, strict=True):
        overlay = Path(row["film"].path).with_name(f"{row['image']}.OVERLAY")
        if not os.path.lexists(overlay):
            continue
        found = _attempt(partial(_outlined, row, case, overlay, root), failures) or []
        for number, (diagnosis, box) in enumerate(found):
            part, origin = Film(row["film"].path, box), str(overlay)
            image = f"{row['image']}_{number}"
            rows.append({**row, "image": image, "diagnosis": diagnosis, "film": part, "origin": origin})
    if not rows and not failures:
        raise InputError(f"{root} has no .OVERLAY beside its films, which says where findings are")
    findings = pd.DataFrame(rows, columns=table.columns)
    findings.attrs[WITHOUT_FINDING] = len(table) - len({row["film"].path for row in rows})
    return findings


def _outlined(row: Mapping[Hashable, Any], case: Case, overlay: Path, root: Path) -> list[tuple[str, Box]]:
    """A film's findings of proven pathology."""
    image = row["image"]
    size = case.sizes.get(image.partition(".")[2])
    if size is None:
        file = _case_file(row["film"], image)
        raise InputError(f"{file} does not list the film {image}, whose size {overlay.name} needs")
    return [(diagnosis, box) for diagnosis, box in read_findings(overlay, root, size) if diagnosis]
