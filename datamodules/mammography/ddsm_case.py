"""Reading what lies beside the films of DDSM: the case's facts (``.ics``), and the outlines of findings (``.OVERLAY``).

Source: Heath et al., "The Digital Database for Screening Mammography", IWDM 2000.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_dist.datamodules.images.data_root import check_inside
from lit_dist.datamodules.label_table import read_lines
from lit_dist.datamodules.mammography.breast import Box, square_around
from lit_dist.utils.errors import InputError

_FILM = re.compile(
    r"(?P<name>(?:LEFT|RIGHT)_(?:CC|MLO))\s+LINES\s+(?P<height>[1-9]\d{0,5})\s+PIXELS_PER_LINE\s+(?P<width>[1-9]\d{0,5})"
    r"\s(?:.*\s)?RESOLUTION\s+(?P<micrometres>[1-9]\d{0,5}(?:\.\d{1,9})?)(?:\s.*)?"
)
_DENSITY = re.compile(r"DENSITY\s+([1-4])\s*")
_DIAGNOSES = {
    "MALIGNANT": "malignant",
    "BENIGN": "benign",
    "BENIGN_WITHOUT_CALLBACK": "benign",
    "UNPROVEN": "",
}
_STEPS = np.array([(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)])
"""The steps of an outline, (x, y), by their codes: from upwards on, clockwise."""
_LEAST = 22.4  # millimetres: the side of the smallest part of a film that is shown, as of mini-MIAS
_LONGEST = 4_000_000  # bytes; the longest files of the collection are some 50 kB


@dataclass(frozen=True, slots=True)
class Case:
    """What a case's ``.ics`` says.

    Attributes:
        density: By BI-RADS, ``"1"`` to ``"4"``; empty if it is not given.
        sizes: Of each film, such as ``"LEFT_CC"``, its width and height in pixels, and those of a millimetre.
    """

    density: str
    sizes: dict[str, tuple[int, int, float]]


def read_case(path: Path, root: Path) -> Case:
    """Read a case's ``.ics``, such as ``A-1141-1.ics``, which must not lead out of ``root``.

    Raises:
        InputError: If it cannot be read, or lists no films.
    """
    lines = _lines(path, root)
    films = [found for line in lines if (found := _FILM.fullmatch(line.strip()))]
    densities = [found[1] for line in lines if (found := _DENSITY.fullmatch(line))]
    sizes = {
        film["name"]: (int(film["width"]), int(film["height"]), 1000 / float(film["micrometres"])) for film in films
    }
    if not sizes:
        raise InputError(f"{path} lists no film, such as 'LEFT_CC LINES 4696 PIXELS_PER_LINE 3024 ... RESOLUTION 50'")
    return Case(densities[0] if densities else "", sizes)


def read_findings(path: Path, root: Path, size: tuple[int, int, float]) -> list[tuple[str, Box]]:
    """Read a film's ``.OVERLAY``, such as ``A_1141_1.LEFT_CC.OVERLAY``.

    Args:
        path: The file.
        root: The folder that it must not lead out of.
        size: The film's width and height in pixels, and those of a millimetre.

    Returns:
        Of each finding its diagnosis, ``"malignant"``, ``"benign"`` or empty, and its surroundings: a square, half as
        wide again as the outline, as shares of the film's width and height. Cores within an outline are left out.

    Raises:
        InputError: If it cannot be read; the message names the line.
    """
    found: list[tuple[str, Box]] = []
    diagnosis: str | None = None
    lines = iter(enumerate(_lines(path, root), start=1))
    for number, line in lines:
        words = line.split()
        if words[:1] == ["PATHOLOGY"]:
            diagnosis = _DIAGNOSES.get(" ".join(words[1:]))
        elif words == ["BOUNDARY"]:
            if diagnosis is None:
                known = ", ".join(_DIAGNOSES)
                raise InputError(f"{path}, line {number}: a boundary without one of the pathologies {known}")
            number, outline = next(lines, (number, ""))
            found.append((diagnosis, _surroundings(outline.split(), size, f"{path}, line {number}")))
    if not found:
        raise InputError(f"{path} has no line BOUNDARY, so it outlines no finding")
    return found


def _surroundings(words: list[str], size: tuple[int, int, float], origin: str) -> Box:
    width, height, millimetre = size
    try:
        if words.pop() != "#":
            raise ValueError
        x, y, *codes = map(int, words)
        if min(codes, default=0) < 0:
            raise ValueError
        points = np.cumsum([(x, y), *_STEPS[codes]], axis=0)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    except (ValueError, IndexError, OverflowError):
        raise InputError(f"{origin} is not an outline: a column, a row, codes from 0 to 7, and #") from None
    if left < 0 or top < 0 or right >= width or bottom >= height:
        raise InputError(
            f"{origin}: the outline leaves the film, which has {width} x {height} pixels by the case's .ics"
        )
    half = max(1.5 * max(right - left + 1, bottom - top + 1), _LEAST * millimetre) / 2
    centre = float(left + right + 1) / 2, float(top + bottom + 1) / 2
    return square_around(centre, float(half), (width, height))


def _lines(path: Path, root: Path) -> list[str]:
    check_inside(path, root, str(path))
    return read_lines(path, "; it belongs beside the films of its case", _LONGEST)
