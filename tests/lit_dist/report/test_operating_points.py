from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from lit_dist.report.intervals import all_predictions
from lit_dist.report.operating_points import operating_points, questions, threshold, without_thresholds
from lit_dist.study.report_settings import ReportSettings
from lit_dist.tasks.classification import Classification
from saved_runs import TASK, results, saved

CHANCE = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
TRUTH = torch.tensor([False, False, True, False, True, False, True, True])
LABELS = {"a1": 1, "b1": 1, "c1": 1, "d1": 0, "e1": 0, "f1": 0}
SCORES = {"a1": 0.9, "b1": 0.45, "c1": 0.2, "d1": 0.4, "e1": 0.1, "f1": 0.05}
VALIDATED = {"v1": 0.3, "w1": 0.41, "x1": 0.8}
KNOWN = {"v1": 0, "w1": 1, "x1": 1}


@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        (ReportSettings(), 0.3),
        (ReportSettings(sensitivity=0.75), 0.5),
        (ReportSettings(sensitivity=1.0), 0.3),
        (ReportSettings(specificity=0.75), 0.5),
        (ReportSettings(specificity=1.0), 0.7),
    ],
    ids=str,
)
def test_a_threshold_is_what_was_asked_for(wanted: ReportSettings, least: float) -> None:
    assert threshold(CHANCE, TRUTH, wanted) == pytest.approx(least)


def test_of_thresholds_that_are_as_good_the_most_sensitive_one_is_taken() -> None:
    truth = torch.tensor([False, False, True, False, True, True])
    assert threshold(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), truth, ReportSettings()) == pytest.approx(0.3)


def test_records_of_one_kind_give_no_threshold() -> None:
    assert threshold(CHANCE, torch.ones(8, dtype=torch.bool), ReportSettings()) is None


def test_a_specificity_that_no_record_reaches_makes_nobody_positive() -> None:
    assert threshold(torch.tensor([0.5, 0.9]), torch.tensor([True, False]), ReportSettings(specificity=1.0)) == np.inf


def points(*runs: tuple[str, str, int], wanted: ReportSettings | None = None) -> pd.DataFrame:
    return operating_points(all_predictions(Path(), results(*runs), TASK), TASK, wanted or ReportSettings())


def test_the_threshold_is_that_of_the_validation_records_and_the_rates_are_those_of_the_test() -> None:
    saved("one", SCORES, LABELS)
    saved("one", VALIDATED, KNOWN, file="validation_predictions")
    row = points(("one", "central", 0)).iloc[0]
    assert (row["question"], row["n"], row["positive"]) == ("class 1", 6, 3)
    assert row["threshold"] == pytest.approx(0.41)
    assert [row["sensitivity"], row["specificity"], row["ppv"], row["npv"]] == pytest.approx([2 / 3, 1, 1, 3 / 4])
    assert row["sensitivity_low"] == 0
    low, high = stats.binomtest(3, 3).proportion_ci(method="exact")
    assert [row["specificity_low"], row["specificity_high"]] == pytest.approx([low, high]), "no resample can differ"


def test_the_exact_interval_is_one_of_patients() -> None:
    labels = {f"{patient}{image}": int(patient in "abcde") for patient in "abcdefghij" for image in (1, 2)}
    scores = {image: 0.9 if label else 0.1 for image, label in labels.items()}
    saved("one", scores, labels)
    saved("one", scores, labels, file="validation_predictions")
    row = points(("one", "central", 0)).iloc[0]
    low, high = stats.binomtest(5, 5).proportion_ci(method="exact")
    assert [row["sensitivity_low"], row["sensitivity_high"]] == pytest.approx([low, high]), "five patients, ten records"


def test_each_run_has_a_threshold_of_its_own() -> None:
    saved("one", SCORES, LABELS)
    saved("one", VALIDATED, KNOWN, file="validation_predictions")
    saved("two", {image: score / 2 for image, score in SCORES.items()}, LABELS)
    saved("two", {image: score / 2 for image, score in VALIDATED.items()}, KNOWN, file="validation_predictions")
    row = points(("one", "central", 0), ("two", "central", 1)).iloc[0]
    assert row["sensitivity"] == pytest.approx(2 / 3)
    assert row["threshold"] == pytest.approx(0.41 * 0.75)


def test_a_run_without_predictions_of_validation_records_has_none_and_is_named() -> None:
    saved("one", SCORES, LABELS)
    saved("two", SCORES, LABELS)
    saved("two", VALIDATED, KNOWN, file="validation_predictions")
    runs = ("one", "central", 0), ("two", "ensemble", 0)
    assert points(*runs)["label"].tolist() == ["ensemble"]
    assert list(without_thresholds(all_predictions(Path(), results(*runs), TASK))) == ["central"]


def test_intervals_hold_seeds_and_patients() -> None:
    chance = np.random.default_rng(0)
    labels = {chr(300 + n): 1 for n in range(200)} | {chr(600 + n): 0 for n in range(200)}
    shares = [0.6, 0.7, 0.8]
    for seed, share in enumerate(shares):
        right = chance.permutation(np.arange(200) < 200 * share)
        scores = {name: 0.9 if label and right[n % 200] else 0.1 for n, (name, label) in enumerate(labels.items())}
        saved(str(seed), scores, labels)
        saved(str(seed), {"a": 0.9, "b": 0.1}, {"a": 1, "b": 0}, file="validation_predictions")
    row = points(*((str(seed), "central", seed) for seed in range(3))).iloc[0]
    assert row["sensitivity"] == pytest.approx(0.7)
    assert row["sensitivity_low"] < 0.61
    assert row["sensitivity_high"] > 0.79


def test_too_many_classes_are_not_asked_for_one_by_one() -> None:
    many = Classification(30)
    folder = Path("runs/one/fit")
    folder.mkdir(parents=True)
    rows = {f"probability_{n}": [1 / 30] for n in range(30)}
    pd.DataFrame({"site": "a", "image": ["i"], "patient": "p", "label": 3, **rows}).to_csv(folder / "predictions.csv")
    found = all_predictions(Path(), results(("one", "central", 0)), many)
    assert questions(found["central"], many) == {}
    assert operating_points(found, many, ReportSettings()).empty
