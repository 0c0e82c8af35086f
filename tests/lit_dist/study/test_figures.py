import html
from pathlib import Path

import pandas as pd
import pytest

from lit_dist.study.figures import Tables, as_svg, draw
from lit_dist.study.results import COLUMNS


@pytest.mark.parametrize(("metric", "drawn"), [("val_loss", True), ("val_f1", False)])
def test_the_curves_are_left_out_where_no_validation_loss_is_logged(metric: str, drawn: bool, tmp_path: Path) -> None:
    runs = {"central": "central", "cyclical": "cyclical_weight_transfer"}
    for run in runs:
        folder = tmp_path / "runs" / run / "fit"
        folder.mkdir(parents=True)
        pd.DataFrame({"step": [1, 2], metric: [0.7, 0.6]}).to_csv(folder / "metrics.csv", index=False)
    rows = [{"run": run, "heuristic": kind, "kind": kind, "seed": 0} for run, kind in runs.items()]
    results = pd.DataFrame(rows, columns=COLUMNS)
    assert (draw("curves", Tables(tmp_path, results, pd.DataFrame(), pd.DataFrame())) is not None) is drawn


def test_names_are_drawn_as_they_are_written(tmp_path: Path) -> None:
    names = ["_hidden", "costs $5$ and $\\x$", "<b> & Ü"]
    rows = [{"run": str(n), "heuristic": name, "kind": "callbacks", "seed": 0} for n, name in enumerate(names)]
    results = pd.DataFrame(rows, columns=COLUMNS).assign(bytes_sent=1.0, accuracy=0.5)
    drawn = draw("bytes", Tables(tmp_path, results, pd.DataFrame(), pd.DataFrame()))
    assert drawn is not None
    svg = as_svg(drawn[0])["light"].decode()
    assert all(html.escape(name, quote=False) in svg for name in names)
