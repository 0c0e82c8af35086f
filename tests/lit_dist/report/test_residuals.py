"""Figures of residuals: where models predict too high, by the value and by site."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lit_dist.report.figures import draw
from lit_dist.report.results import columns
from lit_dist.report.tables import Tables
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.task import Task

VALUES = np.repeat(np.arange(20.0, 60.0), 4)
SITES = np.tile(["a", "b"], 80)


def tables_of(study: Path, task: Task, errors: dict[str, np.ndarray]) -> Tables:
    """Of a run each, with the errors of its predictions."""
    for name, error in errors.items():
        folder = study / "runs" / name / "fit"
        folder.mkdir(parents=True)
        rows = {"site": SITES, "image": range(160), "patient": range(160), "label": VALUES, "value": VALUES + error}
        if task.name != "regression":
            rows = {**rows, "label": np.tile([0, 1], 80), "probability_0": 0.5, "probability_1": 0.5}
        pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False)
    results = pd.DataFrame(
        [{"run": name, "heuristic": name, "kind": "callbacks", "seed": 0} for name in errors], columns=columns(task)
    )
    return Tables(study, results, *(pd.DataFrame() for _ in range(4)), task)


ERRORS = {"to the mean": (40 - VALUES) / 2, "of one site": np.where(SITES == "a", 3.0, -1.0)}


def test_residuals_are_drawn_by_value(tmp_path: Path) -> None:
    drawn = draw("residuals", tables_of(tmp_path, Regression(), ERRORS))
    assert drawn is not None
    first, second = drawn.wide.axes[0].lines[:2]
    assert np.allclose(first.get_ydata(), (40 - np.asarray(first.get_xdata())) / 2)
    assert np.allclose(second.get_ydata(), 1)
    assert len(first.get_xdata()) == 8


def test_residuals_are_drawn_by_site(tmp_path: Path) -> None:
    drawn = draw("residuals_sites", tables_of(tmp_path, Regression(), ERRORS))
    assert drawn is not None
    [image] = drawn.wide.axes[0].images
    assert np.allclose(np.asarray(image.get_array()), [[0.25, 0.25], [3, -1]])


@pytest.mark.parametrize("name", ["residuals", "residuals_sites"])
def test_classes_have_no_residuals(tmp_path: Path, name: str) -> None:
    assert draw(name, tables_of(tmp_path, Classification(2), ERRORS)) is None
