"""The notebooks run from their first cell to the last, with little to train."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from lightning.pytorch import seed_everything

from pages import ROOT
from real_data import DATA

NOTEBOOKS = ROOT / "examples" / "notebooks"
SMALL: dict[str, dict[str, Any]] = {
    "phantom_study": {"patients": 80, "passes": 1, "seeds": [0], "width": 4},
    "segmentation": {"cycles": 2, "images": 16},
    "twenty_hospitals": {"cycles": 1, "folder": DATA / "brain_abide20"},
}
"""For each notebook other values in the place of those in its cell of parameters."""


def cells(name: str) -> list[dict[str, Any]]:
    return list(json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"])


def run(name: str) -> dict[str, Any]:
    """Run the cells in the working directory; what they have made, by name."""
    mpl.use("agg")
    seed_everything(0, verbose=False)
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(cells(name)):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert SMALL[name].keys() <= names.keys()
            names.update(SMALL[name])
    return names


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a notebook sets for its process ends with it."""
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    yield
    lightning.setLevel(level)


def test_every_notebook_is_tried_and_shows_what_it_has_found() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)
    for name in SMALL:
        outputs = [output for cell in cells(name) for output in cell.get("outputs", [])]
        assert any("image/png" in output.get("data", {}) for output in outputs)
        assert not any(output["output_type"] == "error" for output in outputs)
        assert str(ROOT.parent) not in json.dumps(outputs), "a path of the machine that it was run on"


@pytest.mark.slow
def test_the_study_of_phantoms() -> None:
    found = run("phantom_study")
    assert set(found["summary"]["label"]) >= {"central", "ensemble", "single transfer", "cyclical, every epoch"}
    assert list(found["visits"]["site"]) == list(found["data"].sites)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on loaders
def test_segmentation() -> None:
    found = run("segmentation")
    values = {label: found["judged"](network, "mgh") for label, network in found["networks"].items()}
    assert values["mgh alone"] > 0.8, "it learns what it sees"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on loaders
@pytest.mark.skipif(not (DATA / "brain_abide20").is_dir(), reason="ABIDE is not there")
def test_the_twenty_hospitals() -> None:
    found = run("twenty_hospitals")
    assert len(found["found"]["cyclical"]) > 20
    assert found["sites"] == 20
