from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

from lit_dist.report.curves import GRID, curves
from lit_dist.report.intervals import all_predictions
from saved_runs import TASK, results, saved


def drawn(*seeds: int, moved: float = 1.0) -> pd.DataFrame:
    """The curves of runs of coarse scores, so that there are ties."""
    chance = np.random.default_rng(5)
    labels = {chr(300 + n): n % 3 // 2 for n in range(120)}
    for seed in seeds:
        odds = moved * np.array(list(labels.values())) + chance.normal(size=120)
        scores = dict(zip(labels, np.round(1 / (1 + np.exp(-odds)), 1).tolist(), strict=True))
        saved(str(seed), scores, labels)
    found = all_predictions(Path(), results(*((str(seed), "central", seed) for seed in seeds)), TASK)
    return curves(found, TASK, ["central"])


def of_run(run: str) -> tuple[torch.Tensor, torch.Tensor]:
    table = pd.read_csv(f"runs/{run}/fit/predictions.csv")
    return torch.tensor(table["probability_1"]), torch.tensor(table["label"])


def test_a_curve_is_that_of_the_metric_library() -> None:
    table = drawn(0)
    roc = table[table["curve"] == "roc"]
    alarms, found, _ = binary_roc(*of_run("0"))
    assert roc["y"].to_numpy() == pytest.approx(np.interp(GRID, alarms, found), abs=1e-6)
    precision, recall, _ = binary_precision_recall_curve(*of_run("0"))
    best = [precision[recall >= max(x - 1e-9, 1e-9)].numpy() for x in GRID]
    own = table[table["curve"] == "precision_recall"]["y"].to_numpy()
    for value, known in zip(own, best, strict=True):
        assert np.isclose(known, value, atol=1e-6).any()
    assert own[-1] == pytest.approx(precision[recall >= 1].max().item(), abs=1e-6)
    assert own[0] == pytest.approx(precision[recall > 0][-1].item(), abs=1e-6)


def test_bands_hold_the_curve_and_widen_with_seeds_that_differ() -> None:
    table = drawn(0, 1, 2)
    assert (table["low"] <= table["y"] + 1e-9).mean() > 0.95
    assert (table["high"] >= table["y"] - 1e-9).mean() > 0.95
    roc = table[table["curve"] == "roc"]
    assert (roc["high"] - roc["low"]).max() > 0.1
    assert roc["y"].iloc[-1] == 1


def test_records_of_one_class_have_no_curve() -> None:
    saved("one", {"a": 0.5, "b": 0.6}, {"a": 1, "b": 1})
    assert curves(all_predictions(Path(), results(("one", "central", 0)), TASK), TASK, ["central"]).empty
