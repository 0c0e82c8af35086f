from pathlib import Path

import numpy as np
import pytest
import torch

from lit_dist import InputError
from lit_dist.report.intervals import all_predictions, resample
from lit_dist.report.pairs import compare_pairs, resolution
from saved_runs import GOOD, LABELS, POOR, TASK, results, saved


@pytest.mark.slow
def test_each_pair_is_compared_once_by_a_plain_loop_over_patients() -> None:
    saved("one", GOOD, LABELS)
    saved("two", POOR, LABELS)
    table = results(("one", "central", 0), ("two", "cyclical_weight_transfer", 0))
    pairs = compare_pairs(resample(all_predictions(Path(), table, TASK), TASK))
    assert pairs[["metric", "first", "n"]].to_numpy().tolist() == [["auroc", "central", 6], ["accuracy", "central", 6]]
    assert pairs["difference"].tolist() == pytest.approx([8 / 9, 5 / 6])
    chance, drawn = np.random.default_rng(1), []
    for _ in range(4000):
        images = [image for patient in chance.choice(list("abcd"), 4) for image in GOOD if image[0] == patient]
        labels = torch.tensor([LABELS[image] for image in images])
        one, two = (
            TASK.judge(torch.tensor([[1 - scores[image], scores[image]] for image in images]).log(), labels)
            for scores in (GOOD, POOR)
        )
        drawn.append([(one[name] - two[name]).item() for name in ("auroc", "accuracy")])
    expected = np.nanquantile(drawn, [0.025, 0.975], axis=0).T
    assert pairs[["low", "high"]].to_numpy() == pytest.approx(expected, abs=0.03)


def test_equal_predictions_do_not_differ() -> None:
    for run in ("one", "two"):
        saved(run, GOOD, LABELS)
    table = results(("one", "central", 0), ("two", "ensemble", 0))
    pairs = compare_pairs(resample(all_predictions(Path(), table, TASK), TASK))
    assert pairs[["difference", "low", "high", "p", "p_adjusted"]].to_numpy().tolist() == [[0, 0, 0, 1, 1]] * 2
    assert "too few to tell any two" in resolution(pairs, TASK)


def test_heuristics_of_other_images_are_not_compared() -> None:
    saved("one", GOOD, LABELS)
    saved("two", {"a1": 0.5, "z1": 0.5}, {"a1": 1, "z1": 0})
    with pytest.raises(InputError, match="tested on different records"):
        resample(all_predictions(Path(), results(("one", "central", 0), ("two", "ensemble", 0)), TASK), TASK)
