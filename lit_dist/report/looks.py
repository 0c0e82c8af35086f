"""How a heuristic looks in every figure of every study, and in which order sites stand."""

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lit_dist.report.summary import groups
from lit_dist.study.heuristics import OWN
from lit_dist.study.run import read_run, run_path
from lit_dist.utils.errors import InputError

INK = ("#1f2328", "#e6edf3")
"""Of text and lines, on a white ground and on a dark one."""

_COLOURS = {
    "central": INK,
    "single": ("#808890", "#8b949e"),
    "ensemble": ("#535100", "#d89f15"),
    "single_weight_transfer": ("#f81747", "#cb3c62"),
    "cyclical_weight_transfer": ("#1177fc", "#5999e8"),
    "FederatedAveraging": ("#25a265", "#1dd985"),
    "DaisyChaining": ("#6b2691", "#925ba7"),
    OWN: ("#e56f00", "#aa501b"),
}
"""Of each kind of heuristic, on white and on dark. Each stands out of its ground by 3:1 (WCAG 2.2, 1.4.11). Any two are
19 apart (CIE 1976), also for people who see no red, no green or no blue (the matrices of Machado et al. 2009)."""

_TRANSFERS = {
    "CyclicalWeightTransfer": "cyclical_weight_transfer",
    "SingleWeightTransfer": "single_weight_transfer",
    "FederatedAveraging": "FederatedAveraging",
    "DaisyChaining": "DaisyChaining",
}
_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True)
class Look:
    """How a heuristic is drawn: its kind has one colour, and what varies it has shades, dashes and markers.

    Attributes:
        colour: The colour, on white.
        dashes: The line's style.
        marker: The shape of points.
    """

    colour: str
    dashes: str = "-"
    marker: str = "o"

    @property
    def line(self) -> dict[str, Any]:
        """What ``Axes.plot`` takes for a line without points."""
        return {"color": self.colour, "linestyle": self.dashes}

    @property
    def points(self) -> dict[str, Any]:
        """What ``Axes.plot`` takes for points without a line."""
        return {"color": self.colour, "linestyle": "none", "marker": self.marker}


def looks(study: Path, results: pd.DataFrame) -> dict[str, Look]:
    """The look of each heuristic of ``results.csv``, by its label: by what it is, not by its place in the study."""
    found, seen = {}, Counter[str]()
    for label, runs in groups(results).items():
        family = _family(study, *runs[["kind", "run"]].iloc[0])
        number, seen[family] = seen[family], seen[family] + 1
        colours = _COLOURS[family]
        found[label] = Look(
            (_shade(colours) if number % 2 else colours)[0],
            _DASHES[number % len(_DASHES)],
            _MARKERS[number % len(_MARKERS)],
        )
    return found


def _family(study: Path, kind: str, run: str) -> str:
    """The kind of a heuristic; of one that is made of callbacks, its transfer's class where it is one of ours."""
    if kind != OWN:
        return kind
    with suppress(InputError, KeyError, TypeError):
        callbacks = read_run(run_path(study, run)).config["trainer"]["callbacks"]
        classes = [each["class_path"].rpartition(".") for each in callbacks]
        own = [name for module, _, name in classes if module.startswith("lit_dist") and name in _TRANSFERS]
        return _TRANSFERS[own[0]] if own else OWN
    return OWN


def _shade(colours: tuple[str, str]) -> tuple[str, str]:
    """The same hue, further from its ground, so that it stands out no less."""
    mixed = []
    for colour, end in zip(colours, (0, 255), strict=True):
        parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        mixed.append("#" + "".join(f"{round(0.55 * part + 0.45 * end):02x}" for part in parts))
    return mixed[0], mixed[1]


def on_dark() -> dict[str, str]:
    """What each colour of ink and heuristics becomes on a dark ground, by the colour on white."""
    return dict([INK, *_COLOURS.values(), *map(_shade, _COLOURS.values())])


def in_order(names: Iterable[str]) -> list[str]:
    """Names of sites in the order in which people count: ``site_2`` before ``site_10``.

    Example:
        >>> in_order(["site_10", "site_2", "Berlin"])
        ['Berlin', 'site_2', 'site_10']
    """

    def parts(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]

    return sorted(names, key=lambda name: (parts(name), name))
