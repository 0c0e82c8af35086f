import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lit_dist.report.figures import draw
from lit_dist.report.results import columns
from lit_dist.report.tables import Tables
from lit_dist.tasks.classification import Classification


@pytest.mark.parametrize(("metric", "drawn"), [("val_loss", True), ("val_f1", False)])
def test_the_curves_are_left_out_where_no_validation_loss_is_logged(metric: str, drawn: bool, tmp_path: Path) -> None:
    tables = curves_of({"central": "central", "cyclical": "cyclical_weight_transfer"}, metric, tmp_path)
    assert (draw("curves", tables) is not None) is drawn


def curves_of(kinds: dict[str, str], metric: str, study: Path) -> Tables:
    """The tables of runs, each with a curve."""
    for name in kinds:
        folder = study / "runs" / name / "fit"
        folder.mkdir(parents=True)
        pd.DataFrame({"step": [1, 2], metric: [0.7, 0.6]}).to_csv(folder / "metrics.csv", index=False)
    rows = [{"run": name, "heuristic": name, "kind": kind, "seed": 0} for name, kind in kinds.items()]
    task = Classification(2)
    results = pd.DataFrame(rows, columns=columns(task))
    return Tables(study, results, *(pd.DataFrame() for _ in range(4)), task)


def test_no_two_curves_look_alike(tmp_path: Path) -> None:
    kinds = {"central": "central", "shared": "central", "cyclical": "cyclical_weight_transfer", "other": "callbacks"}
    drawn = draw("curves", curves_of(kinds, "val_loss", tmp_path))
    assert drawn is not None
    looks = [(line.get_color(), line.get_linestyle()) for line in drawn.wide.axes[0].lines]
    assert len(set(looks)) == len(looks) == 4


def test_names_are_drawn_as_they_are_written(tmp_path: Path) -> None:
    names = ["_hidden", "costs $5$ and $\\x$", "<b> & Ü"]
    rows = [{"run": str(n), "heuristic": name, "kind": "callbacks", "seed": 0} for n, name in enumerate(names)]
    results = pd.DataFrame(rows, columns=columns(Classification(2))).assign(bytes_sent=1.0, accuracy=0.5)
    drawn = draw(
        "bytes",
        Tables(tmp_path, results, *(pd.DataFrame() for _ in range(4)), Classification(2)),
    )
    assert drawn is not None
    svg = drawn.svg["wide"].decode()
    assert all(html.escape(name, quote=False) in svg for name in names)


def test_the_curves_are_those_of_all_seeds(tmp_path: Path) -> None:
    tables = curves_of(dict.fromkeys(("one", "two"), "cyclical_weight_transfer"), "val_loss", tmp_path)
    results = tables.results.assign(heuristic="cyclical_weight_transfer", seed=[0, 1], every_n_epochs=1)
    longer = pd.DataFrame({"step": [1, 2, 3], "val_loss": [0.1, 0.2, 0.3]})
    longer.to_csv(tmp_path / "runs/two/fit/metrics.csv", index=False)
    drawn = draw("curves", replace(tables, results=results))
    assert drawn is not None
    *seeds, mean = drawn.wide.axes[0].lines
    assert [len(line.get_xdata()) for line in seeds] == [2, 3]
    assert list(mean.get_ydata()) == pytest.approx([0.4, 0.4, np.nan], nan_ok=True)
