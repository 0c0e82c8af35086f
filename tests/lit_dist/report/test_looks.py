from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from lit_dist.report.looks import INK, Look, looks, on_dark
from lit_dist.report.results import columns
from lit_dist.study.heuristics import KINDS
from lit_dist.study.run import Run
from lit_dist.tasks.classification import Classification

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009
_SEEN = np.array([
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
])  # fmt: skip
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> NDArray[np.float64]:
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light: NDArray[np.float64]) -> NDArray[np.float64]:
    xyz = _XYZ @ np.clip(light, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def of_kinds(*names: str) -> dict[str, Look]:
    """The looks of a study of short names and names of the user's own, whose plans are gone."""
    kinds = {name: name if name in KINDS else "callbacks" for name in names}
    rows = [{"run": name, "heuristic": name, "kind": kind, "seed": 0} for name, kind in kinds.items()]
    return looks(Path("nowhere"), pd.DataFrame(rows, columns=columns(Classification(2))))


@pytest.mark.parametrize(("place", "ground"), [(0, "#ffffff"), (1, "#0d1117")])
def test_everybody_can_tell_the_colours_of_heuristics_apart(place: int, ground: str) -> None:
    for pair in on_dark().items():
        colour = pair[place]
        bright, dark = sorted((linear(each) @ _XYZ[1] for each in (colour, ground)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3
    kinds = [(look.colour, on_dark()[look.colour])[place] for look in of_kinds(*KINDS, "own").values()]
    for (one, other), seen in product(combinations(kinds, 2), _SEEN):
        assert np.linalg.norm(lab(seen @ linear(one)) - lab(seen @ linear(other))) > 19


def test_a_heuristic_looks_the_same_in_every_study() -> None:
    alone = of_kinds("cyclical_weight_transfer")["cyclical"]
    assert alone == of_kinds("single", "own", "cyclical_weight_transfer", "central")["cyclical"]
    assert len({*of_kinds(*KINDS, "a", "b", "c", "d", "e").values()}) == 10
    assert of_kinds("central")["central"].colour == INK[0]


@pytest.mark.parametrize(
    ("path", "like"),
    [
        ("lit_dist.callbacks.CyclicalWeightTransfer", "cyclical"),
        ("mine.FederatedAveraging", "own"),
        ("lit_dist.callbacks.FederatedAveraging", None),
    ],
)
def test_callbacks_look_like_the_transfer_among_them(path: str, like: str | None, tmp_path: Path) -> None:
    callbacks = [{"class_path": "lit_dist.callbacks.FixBN"}, {"class_path": path}]
    Run("averaging", "averaging", 0, 8, {"trainer": {"callbacks": callbacks}}, base="callbacks").write(tmp_path)
    rows = [{"run": "averaging", "heuristic": "averaging", "kind": "callbacks", "seed": 0}]
    found = looks(tmp_path, pd.DataFrame(rows, columns=columns(Classification(2))))["averaging"]
    same = [name for name, look in of_kinds(*KINDS, "own").items() if look == found]
    assert same == ([like] if like else [])
