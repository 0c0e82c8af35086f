from pathlib import Path

import pandas as pd
import pytest

from lit_dist.study.figures import Tables, draw
from lit_dist.study.results import COLUMNS


@pytest.mark.parametrize(("metric", "drawn"), [("val_loss", True), ("val_f1", False)])
def test_the_curves_are_left_out_where_no_validation_loss_is_logged(metric: str, drawn: bool, tmp_path: Path) -> None:
    runs = {"central": "central", "cyclical": "cyclical_weight_transfer"}
    for run in runs:
        folder = tmp_path / "runs" / run / "fit"
        folder.mkdir(parents=True)
        pd.DataFrame({"step": [1, 2], metric: [0.7, 0.6]}).to_csv(folder / "metrics.csv", index=False)
    results = pd.DataFrame([{"run": run, "heuristic": runs[run], "seed": 0} for run in runs], columns=COLUMNS)
    assert (draw("curves", Tables(tmp_path, results, pd.DataFrame(), pd.DataFrame())) is not None) is drawn
