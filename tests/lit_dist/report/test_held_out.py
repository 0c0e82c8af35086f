"""Each site held out in turn: what is trained without it, and what is said of it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lit_dist import InputError
from lit_dist.cli.compare import _print_held_out
from lit_dist.cli.main import main as command
from lit_dist.report.results import columns
from lit_dist.report.summary import groups
from lit_dist.study.plan import make_plan
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.regression import Regression
from small_study import SMALL, settings, written

SITES = ["site-1", "site-2", "site-3"]
THREE: dict[str, Any] = {
    "data": {**SMALL["data"], "init_args": {**SMALL["data"]["init_args"], "sites": 3, "patients": 20}},
    "leave_one_site_out": True,
}


def test_each_heuristic_is_trained_without_each_site() -> None:
    runs = make_plan(settings(**THREE, heuristics=["central", "single", "ensemble"]))
    assert [run.held_out for run in runs if run.heuristic == "central"] == SITES
    for run in runs:
        assert run.config["data"]["init_args"]["external"] == [run.held_out]
        assert run.site != run.held_out
        assert {one.held_out for one in runs if one.name in run.members} <= {run.held_out}
    assert len({run.name for run in runs}) == len(runs) == 3 * (1 + 2 + 1)


def test_two_sites_are_too_few() -> None:
    with pytest.raises(InputError, match="three sites or more, not 2"):
        make_plan(settings(leave_one_site_out=True))


def table(values: dict[tuple[str, str, int], float], metric: str) -> pd.DataFrame:
    rows = [
        {"run": f"{heuristic}{site}{seed}", "heuristic": heuristic, "kind": heuristic, "held_out": site, "seed": seed,
         metric: value}
        for (heuristic, site, seed), value in values.items()
    ]  # fmt: skip
    task = Regression() if metric == "mean_absolute_error" else Classification(2)
    return pd.DataFrame(rows, columns=columns(task)).astype({"every_n_epochs": "Int64"})


def test_a_seed_that_lacks_a_site_is_left_out() -> None:
    values = {("central", "a", 0): 0.9, ("central", "b", 0): 0.6, ("central", "a", 1): 0.1}
    assert groups(table(values, "accuracy"))["central"]["seed"].tolist() == [0, 0]


@pytest.mark.slow
def test_a_study_says_how_heuristics_perform_at_sites_that_took_no_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {**THREE, "heuristics": ["central", "cyclical_weight_transfer"], "every_n_epochs": [1], "jobs": 1}
    command(["compare", "--config", str(written(tmp_path / "study.yaml", **changes))])
    study = Path("studies/small")
    results, sites = (pd.read_csv(study / f"{name}.csv") for name in ("results", "sites"))
    assert results["held_out"].tolist() == [site for site in SITES for _ in range(2)]
    assert set(results["n"]) == {20}, "all records of a site that is held out are its test's"
    assert sites["tested_at"].tolist() == results["held_out"].tolist()
    assert sites["accuracy"].tolist() == results["accuracy"].tolist()
    found = pd.read_csv(study / "held_out.csv").set_index("label")
    own = results[results["heuristic"] == "central"]
    assert found.loc["central", "mean"] == pytest.approx(own["auroc"].mean())
    assert found.loc["central", "worst"] == pytest.approx(own["auroc"].min())
    pairs = pd.read_csv(study / "pairs.csv")
    assert pairs["n"].tolist() == [60, 60]
    said = capsys.readouterr().out
    assert "Each site, held out in turn" in said
    assert "AUROC at sites that took no part" in said
    run = study / "runs" / own["run"].iloc[0] / "fit" / "splits.csv"
    splits = pd.read_csv(run)
    assert set(splits.loc[splits["site"] == "site-1", "split"]) == {"test"}


def test_sites_where_the_measure_is_undefined_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"label": "central", "sites": 2, "mean": 0.7, "worst": 0.6, "worst_site": "b", "spread": 0.1}
    _print_held_out(pd.DataFrame([row]), 3, Classification(2))
    assert "The AUROC is undefined at 1 of the 3 sites, which are not among these." in capsys.readouterr().out
    _print_held_out(pd.DataFrame([row]), 2, Classification(2))
    assert "undefined" not in capsys.readouterr().out
