from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lit_dist.report.intervals import all_predictions, interval_of_both, resample, shown_intervals, weighted, with_both
from lit_dist.report.summary import summarise
from lit_dist.tasks.classification import Classification
from saved_runs import LABELS, TASK, results, saved


class OfAccuracy(Classification):
    """Whose first measure has a plain standard error."""

    main = ("accuracy",)


def of_share(right: float, records: int = 400) -> dict[str, float]:
    """Scores of records of one patient each, of which a share is right, at random places."""
    chance = np.random.default_rng(round(1000 * right))
    return {chr(300 + n): float(good) for n, good in enumerate(chance.random(records) < right)}


def summary_of(*runs: tuple[str, str, int], shares: list[float]) -> pd.DataFrame:
    """The summary of runs, of records of class 1."""
    for (run, _, _), share in zip(runs, shares, strict=True):
        scores = of_share(share)
        saved(run, scores, dict.fromkeys(scores, 1))
    table = results(*runs)
    for (run, _, _), share in zip(runs, shares, strict=True):
        table.loc[table["run"] == run, "accuracy"] = np.mean(list(of_share(share).values()))
    task = OfAccuracy(2)
    drawn = resample(all_predictions(Path(), table, task), task)
    return with_both(summarise(table, task), table, drawn).query("metric == 'accuracy'").set_index("label")


def test_the_interval_of_one_seed_is_that_of_its_patients() -> None:
    row = summary_of(("one", "central", 0), shares=[0.7]).loc["central"]
    reach = 1.96 * np.sqrt(row["mean"] * (1 - row["mean"]) / 400)
    assert [row["both_low"], row["both_high"]] == pytest.approx([row["mean"] - reach, row["mean"] + reach], abs=0.006)
    assert np.isnan(row["low"]), "Student's t of one value"


def test_the_variances_of_seeds_and_patients_add_up() -> None:
    runs = [(str(seed), "central", seed) for seed in range(12)]
    shares = [0.60, 0.80, 0.65, 0.75, 0.70, 0.62, 0.78, 0.68, 0.72, 0.66, 0.74, 0.70]
    row = summary_of(*runs, shares=shares).loc["central"]
    right = np.array([list(of_share(share).values()) for share in shares])
    of_seeds = right.mean(axis=1).var(ddof=1) / 12
    variance = of_seeds + right.mean(axis=0).var() / 400
    reach = stats.t.ppf(0.975, 11 * (variance / of_seeds) ** 2) * np.sqrt(variance)
    assert row["both_high"] - row["both_low"] == pytest.approx(2 * reach, rel=0.05)
    assert row["both_high"] - row["both_low"] > 1.2 * 2 * 1.96 * right.mean(axis=0).std() / 20


@pytest.mark.parametrize("spread", [5.0, 0.2])
def test_an_interval_of_three_seeds_holds_the_mean_as_often_as_it_says(spread: float) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        seeds, test, patients = spread * rng.normal(size=(3, 1)), rng.normal(), rng.normal(size=(1, 400))
        low, high = interval_of_both(seeds + test + patients)
        hits += low <= 0 <= high
    assert 0.89 < hits / 200 < 0.99


def test_the_interval_of_seeds_that_vary_alone_is_students() -> None:
    values = np.array([0.70, 0.74, 0.81])
    low, high = interval_of_both(np.repeat(values[:, None], 20_000, axis=1))
    reach = 4.303 * values.std(ddof=1) / np.sqrt(3)
    assert high - low == pytest.approx(2 * reach, rel=0.25)  # the percentiles of three values are no normal ones
    assert interval_of_both(np.repeat(values[:, None], 100, axis=1), (0.6, 0.8))[1] == 0.8


def test_a_measure_that_is_defined_in_no_resample_has_no_interval() -> None:
    assert np.isnan(interval_of_both(np.full((3, 50), np.nan))).all()
    rows = [("one", "central", 0), ("two", "central", 1)]
    for run, _, _ in rows:
        saved(run, dict.fromkeys(LABELS, 0.9), dict.fromkeys(LABELS, 1))  # all are of one class
    table = results(*rows)
    found = resample(all_predictions(Path(), table, TASK), TASK, ["auroc"], draws=50)["auroc"]
    assert np.isnan(found.interval("central")).all()


def test_a_difference_is_one_of_the_same_patients_and_the_same_seeds() -> None:
    kinds = ("central", "cyclical_weight_transfer")
    runs = [(f"{kind}{seed}", kind, seed) for kind in kinds for seed in (0, 1, 2)]
    found = summary_of(*runs, shares=[0.6, 0.7, 0.8] * 2)
    row = found[found["heuristic"] == "cyclical_weight_transfer"].iloc[0]
    assert (row["both_difference_low"], row["both_difference_high"]) == (0, 0)
    assert row["both_high"] > row["both_low"] + 0.05
    assert np.isnan(found.loc["central", "both_difference_low"])


def test_intervals_stay_within_what_a_metric_can_be() -> None:
    row = summary_of(("one", "central", 0), ("two", "central", 1), shares=[0.995, 0.96]).loc["central"]
    assert row["high"] == 1.0, "Student's t is cut off"
    assert 0.8 < row["both_low"] < row["mean"] < row["both_high"] == 1.0


def test_heuristics_that_lack_a_seed_are_resampled_by_those_that_they_have() -> None:
    for run, score in (("a", 0.9), ("b", 0.1), ("c", 0.9)):
        saved(run, dict.fromkeys(LABELS, score), dict.fromkeys(LABELS, 1))
    table = results(("a", "central", 0), ("b", "central", 1), ("c", "ensemble", 1))
    found = resample(all_predictions(Path(), table, TASK), TASK, ["accuracy"], draws=50)["accuracy"]
    assert set(found.of_both("central")) == {0, 1}
    assert set(found.of_both("ensemble")[~np.isnan(found.of_both("ensemble"))]) == {1}
    assert found.value("central") == 0.5
    assert weighted(np.array([[1.0], [np.nan]]), np.array([[0.0], [1.0]])).tolist() == pytest.approx(
        [np.nan], nan_ok=True
    )


def test_what_is_not_resampled_is_shown_as_it_was() -> None:
    summary = pd.DataFrame({"low": [0.1, 0.2], "both_low": [np.nan, 0.3], "high": 1.0})
    assert shown_intervals(summary)["low"].tolist() == [0.1, 0.3]
    assert shown_intervals(summary)["high"].tolist() == [1.0, 1.0]
