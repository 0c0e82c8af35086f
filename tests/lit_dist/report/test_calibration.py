from pathlib import Path

import numpy as np
import pytest

from lit_dist.report.calibration import calibration, calibration_curves, calibration_error
from lit_dist.report.intervals import all_predictions
from lit_dist.report.results import Predictions
from saved_runs import TASK, results, saved


def found(stretched: float, *seeds: int, records: int = 2000) -> dict[str, Predictions]:
    """Runs whose log odds are as many times too great."""
    chance = np.random.default_rng(1)
    odds = chance.normal(size=records)
    truth = chance.random(records) < 1 / (1 + np.exp(-odds))
    labels = {chr(300 + n): int(each) for n, each in enumerate(truth)}
    for seed in seeds:
        saved(str(seed), dict(zip(labels, (1 / (1 + np.exp(-stretched * odds))).tolist(), strict=True)), labels)
    return all_predictions(Path(), results(*((str(seed), "central", seed) for seed in seeds)), TASK)


def test_chances_that_are_right_have_the_error_of_chance() -> None:
    row = calibration(found(1.0, 0), TASK).iloc[0]
    assert row["calibration_error"] == pytest.approx(row["by_chance"], abs=0.012)
    assert 0.01 < row["by_chance"] < 0.04


def test_chances_that_are_too_sure_have_a_greater_one_and_a_flatter_curve() -> None:
    runs = found(3.0, 0, 1)
    row = calibration(runs, TASK).iloc[0]
    assert row["calibration_error"] > 5 * row["by_chance"]
    bins = calibration_curves(runs, TASK, ["central"])
    assert len(bins) == 10
    assert bins["observed"].iloc[0] > bins["predicted"].iloc[0] + 0.1
    assert bins["observed"].iloc[-1] < bins["predicted"].iloc[-1] - 0.1
    assert ((bins["low"] <= bins["observed"]) & (bins["observed"] <= bins["high"])).all()


def test_the_brier_score_is_a_mean_of_squares_with_the_interval_of_one() -> None:
    runs = found(1.0, 0)
    own = runs["central"]
    squares = (own.parts[0].scores[0][0][:, 1].exp().double() - own.targets.double()).square().numpy()
    row = calibration(runs, TASK).iloc[0]
    assert row["brier"] == pytest.approx(squares.mean())
    reach = 1.96 * squares.std() / np.sqrt(len(squares))
    assert [row["brier_low"], row["brier_high"]] == pytest.approx(
        [row["brier"] - reach, row["brier"] + reach], abs=1e-3
    )


def test_bins_have_twenty_records_at_least() -> None:
    chance = np.linspace(0.01, 0.99, 39)
    assert calibration_error(chance, np.ones((1, 39))).item() == pytest.approx(0.5), "one bin"
    assert calibration_error(np.full(500, 0.3), np.zeros((1, 500))).item() == pytest.approx(0.3), "one chance"
