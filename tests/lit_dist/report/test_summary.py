from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lit_dist.report.results import by_site, columns
from lit_dist.report.summary import interval, summarise
from lit_dist.study.execute import read_predictions, scored
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.ordinal import OrdinalGrades

TASK = Classification(2)

ACCURACIES: dict[tuple[str, str | None, int | None], list[float]] = {
    ("central", None, None): [0.80, 0.82, 0.78],
    ("single", "a", None): [0.60, 0.62, 0.64],
    ("single", "b", None): [0.70, 0.72, 0.62],
    ("cyclical_weight_transfer", None, 1): [0.79, 0.79, 0.79],
    ("cyclical_weight_transfer", None, 5): [0.70, 0.75, 0.71],
}


def results(**changes: Any) -> pd.DataFrame:
    rows = []
    for (heuristic, site, every), values in ACCURACIES.items():
        for seed, accuracy in enumerate(values):
            metrics = {"accuracy": accuracy, "balanced_accuracy": accuracy, "auroc": 0.9, "loss": 0.5}
            order = "fixed" if every else None
            row = {"run": f"{heuristic}{site}{every}{seed}", "heuristic": heuristic, "site": site, "order": order}
            row["kind"] = heuristic
            rows.append({**row, "every_n_epochs": every, "seed": seed, **metrics, **changes})
    return pd.DataFrame(rows, columns=columns(TASK)).astype({"every_n_epochs": "Int64"})


def rows_of(metric: str) -> dict[str, Any]:
    summary = summarise(results(), TASK)
    return {row["label"]: row for row in summary[summary["metric"] == metric].to_dict("records")}


def test_means_and_intervals_are_those_of_the_seeds() -> None:
    rows = rows_of("accuracy")
    assert list(rows) == ["central", "single institution", "cyclical, every epoch", "cyclical, every 5 epochs"]
    values = np.array([0.65, 0.67, 0.63])  # of each seed, the mean over the sites
    single = rows["single institution"]
    assert (single["seeds"], single["mean"], single["sd"]) == (3, pytest.approx(0.65), pytest.approx(0.02))
    low, high = stats.t.interval(0.95, 2, loc=0.65, scale=stats.sem(values))
    assert (single["low"], single["high"]) == (pytest.approx(low), pytest.approx(high))


def test_differences_are_paired_by_seed() -> None:
    rows = rows_of("accuracy")
    cyclical = rows["cyclical, every epoch"]
    assert cyclical["difference"] == pytest.approx(-0.01)
    low, high = stats.t.interval(0.95, 2, loc=-0.01, scale=stats.sem([-0.01, -0.03, 0.01]))
    assert (cyclical["difference_low"], cyclical["difference_high"]) == (pytest.approx(low), pytest.approx(high))
    assert cyclical["share_of_central"] == pytest.approx(0.79 / 0.80)
    assert np.isnan(rows["central"]["difference"])


def test_names_of_ones_own_are_shown_as_they_are_and_made_several_where_they_are() -> None:
    table = results()
    mine = table[table["heuristic"].str.startswith("cyclical")].assign(heuristic="mine", optimizer_state="carry")
    one = mine[mine["every_n_epochs"] == 5].assign(heuristic="one", every_n_epochs=pd.NA, every_n_steps=1)
    labels = list(
        summarise(pd.concat([table, mine, one]).astype({"every_n_epochs": "Int64", "every_n_steps": "Int64"}), TASK)[
            "label"
        ].unique()
    )
    short = ["central", "single institution", "cyclical, every epoch", "cyclical, every 5 epochs"]
    assert labels == [*short, "mine, every epoch", "mine, every 5 epochs", "one"]


def test_without_central_a_central_with_callbacks_is_what_others_differ_from() -> None:
    table = results().replace({"heuristic": {"central": "pooled"}})
    rows = summarise(table, TASK).query("metric == 'accuracy'").set_index("label")
    assert rows["difference"]["cyclical, every epoch"] == pytest.approx(-0.01)
    assert np.isnan(rows["difference"]["pooled"])


def test_too_few_seeds_give_no_interval() -> None:
    summary = summarise(results().query("seed == 0"), TASK)
    assert summary[["low", "high", "difference_low"]].isna().all(axis=None)
    assert np.isnan(interval(np.array([0.5]))).all()


def test_without_central_there_is_nothing_to_differ_from() -> None:
    summary = summarise(results().query("kind != 'central'"), TASK)
    assert summary[["share_of_central", "difference"]].isna().all(axis=None)


def test_the_share_of_central_is_that_of_the_seeds_that_both_have() -> None:
    table = results().query("run not in ['centralNoneNone2', 'cyclical_weight_transferNone50']")
    summary = summarise(table, TASK).query("metric == 'accuracy'").set_index("label")
    assert summary["share_of_central"]["cyclical, every epoch"] == pytest.approx(0.79 / 0.81)
    assert summary["share_of_central"]["cyclical, every 5 epochs"] == pytest.approx(0.75 / 0.82)
    assert summary["mean"]["cyclical, every 5 epochs"] == pytest.approx(0.73)


def test_a_seed_that_lacks_a_sites_model_does_not_count() -> None:
    table = results().query("not (site == 'a' and seed == 2)")
    single = summarise(table, TASK).query("metric == 'accuracy'").set_index("label").loc["single institution"]
    assert (single["seeds"], single["mean"]) == (2, pytest.approx(np.mean([0.65, 0.67])))
    assert single["share_of_central"] == pytest.approx(0.66 / 0.81)


def test_each_run_is_judged_at_each_site() -> None:
    folder = Path("runs/one/fit")
    folder.mkdir(parents=True)
    rows = [("a", 0, 0.9), ("a", 1, 0.6), ("b", 1, 0.3), ("a", 1, 0.2)]  # the last: the label's probability
    table = pd.DataFrame(rows, columns=["site", "label", "right"])
    table["probability_1"] = np.where(table["label"] == 1, table["right"], 1 - table["right"])
    table["probability_0"] = 1 - table["probability_1"]
    table["image"] = table["patient"] = list("1234")
    table[["site", "image", "patient", "label", "probability_0", "probability_1"]].to_csv(
        folder / "predictions.csv", index=False
    )
    done = pd.DataFrame([{"run": "one", "heuristic": "single", "site": "c", "seed": 3}], columns=columns(TASK))
    found = by_site(Path(), done, TASK)
    assert found[["run", "site", "seed", "tested_at", "n"]].to_numpy().tolist() == [
        ["one", "c", 3, "a", 3], ["one", "c", 3, "b", 1]
    ]  # fmt: skip
    assert found["accuracy"].tolist() == [pytest.approx(2 / 3), 0.0]
    assert found["auroc"][0] == 1.0
    assert np.isnan(found["auroc"][1]), "of one class alone"


def test_names_that_look_like_nothing_are_names(tmp_path: Path) -> None:
    table = {"site": ["None", "mgh"], "image": ["NA", "b"], "patient": ["NA", "null"], "label": 1}
    table |= {"probability_1": 1.0, "probability_0": 0.0}
    pd.DataFrame(table).to_csv("predictions.csv", index=False)
    found = read_predictions(TASK, Path("predictions.csv"))
    assert found[["site", "image", "patient"]].to_numpy().tolist() == [["None", "NA", "NA"], ["mgh", "b", "null"]]
    assert scored(TASK, found)[0][:, 1].tolist() == [0.0, 0.0], "columns are known by their names"


def test_intervals_stay_within_what_a_metric_can_be_and_a_share_of_what_may_be_negative_is_not_told() -> None:
    table = results().assign(quadratic_kappa=[0.0, 0.1, -0.1, *[0.2] * 12])
    table.loc[table["kind"] == "central", "accuracy"] = [0.9, 0.99, 1.0]
    summary = summarise(table, OrdinalGrades(2)).set_index(["label", "metric"])
    assert summary.loc[("central", "accuracy"), "high"] == 1.0
    assert summary.xs("quadratic_kappa", level="metric")["share_of_central"].isna().all()
    assert summary.loc[("central", "accuracy"), "share_of_central"] == 1.0
