from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from lit_dist import InputError
from lit_dist.report.bootstrap import (
    all_predictions,
    compare,
    compare_pairs,
    holm,
    over_sites,
    patients_drawn,
    resolution,
)
from lit_dist.report.results import columns, predictions
from lit_dist.tasks.classification import Classification

TASK = Classification(2)


def saved(run: str, scores: Mapping[str, float], labels: Mapping[str, int], sites: Mapping[str, str] = {}) -> None:
    """The predictions of a run; an image's patient is the first letter of its name."""
    folder = Path("runs") / run / "fit"
    folder.mkdir(parents=True)
    table = pd.DataFrame({"image": list(scores), "probability_1": list(scores.values())})
    table["probability_0"] = 1 - table["probability_1"]
    table["site"] = [sites.get(image, "a") for image in scores]
    table["patient"] = [image[0] for image in scores]
    table["label"] = [labels[image] for image in scores]
    table.to_csv(folder / "predictions.csv", index=False)


def results(*runs: tuple[str, str, int], held_out: Mapping[str, str] = {}) -> pd.DataFrame:
    rows = [
        {"run": run, "heuristic": kind, "kind": kind, "seed": seed, "held_out": held_out.get(run)}
        for run, kind, seed in runs
    ]
    return pd.DataFrame(rows, columns=columns(TASK)).astype({"every_n_epochs": "Int64"})


LABELS = {"a1": 1, "a2": 0, "b1": 1, "c1": 0, "d1": 1, "d2": 0}
GOOD = {"a1": 0.9, "a2": 0.2, "b1": 0.6, "c1": 0.3, "d1": 0.8, "d2": 0.1}
POOR = {"a1": 0.4, "a2": 0.7, "b1": 0.6, "c1": 0.65, "d1": 0.3, "d2": 0.55}


def test_a_value_is_the_mean_over_seeds_and_records_are_put_together_by_image() -> None:
    saved("one", GOOD, LABELS)
    saved("two", dict(reversed(POOR.items())), LABELS)
    found = predictions(Path(), results(("one", "central", 0), ("two", "central", 1)), TASK)
    assert found.patients.tolist() == [0, 0, 1, 2, 3, 3]
    once = torch.ones(1, 6, dtype=torch.float64)
    assert found.values(TASK, "accuracy", once)[:, 0].tolist() == [1.0, pytest.approx(1 / 6)]
    assert found.values(TASK, "auroc", once)[:, 0].tolist() == [1.0, pytest.approx(1 / 9)]
    saved("three", {"b1": 0.5}, LABELS)
    with pytest.raises(InputError, match=r"runs/three/fit/predictions\.csv has other records"):
        predictions(Path(), results(("one", "central", 0), ("three", "central", 1)), TASK)


def test_each_pair_is_compared_once_by_a_plain_loop_over_patients() -> None:
    saved("one", GOOD, LABELS)
    saved("two", POOR, LABELS)
    pairs = compare_pairs(
        all_predictions(Path(), results(("one", "central", 0), ("two", "cyclical_weight_transfer", 0)), TASK), TASK
    )
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
    pairs = compare_pairs(all_predictions(Path(), results(("one", "central", 0), ("two", "ensemble", 0)), TASK), TASK)
    assert pairs[["difference", "low", "high", "p", "p_adjusted"]].to_numpy().tolist() == [[0, 0, 0, 1, 1]] * 2
    assert "too few to tell any two" in resolution(pairs, TASK)


def test_heuristics_of_other_images_are_not_compared() -> None:
    saved("one", GOOD, LABELS)
    saved("two", {"a1": 0.5, "z1": 0.5}, {"a1": 1, "z1": 0})
    with pytest.raises(InputError, match="tested on different records"):
        compare_pairs(all_predictions(Path(), results(("one", "central", 0), ("two", "ensemble", 0)), TASK), TASK)


def test_the_p_value_is_rarely_small_where_there_is_no_difference() -> None:
    chance = np.random.default_rng(2)
    often = torch.cat(list(patients_drawn(np.arange(80), 1000)))
    small = []
    for _ in range(200):
        change = torch.from_numpy((chance.random(80) < 0.7) * 1.0 - (chance.random(80) < 0.7))
        drawn: NDArray[np.float64] = (often @ change / 80).numpy()
        small.append(compare(change.mean().item(), 0.0, drawn)["p"] < 0.05)
    assert 0.01 < np.mean(small) < 0.12


def test_p_values_are_adjusted_as_by_the_text_book() -> None:
    p = np.random.default_rng(0).random(12) ** 3
    order = np.argsort(p)
    expected, most = np.empty(12), 0.0
    for place, index in enumerate(order):
        most = max(most, min(1.0, (12 - place) * p[index]))
        expected[index] = most
    assert holm(p) == pytest.approx(expected)


def many(sites: int, patients: int, right: float) -> tuple[dict[str, float], dict[str, int], dict[str, str]]:
    """Images of one patient each, whose share that is right differs by site."""
    chance = np.random.default_rng(3)
    names = [f"{chr(200 + number)}" for number in range(sites * patients)]
    labels = {name: int(chance.random() < 0.5) for name in names}
    at = {name: f"s{number // patients}" for number, name in enumerate(names)}
    skill = {f"s{site}": right + 0.3 * chance.random() for site in range(sites)}
    scores = {name: (0.8 if (chance.random() < skill[at[name]]) == labels[name] else 0.2) for name in names}
    return scores, labels, at


class OfAccuracy(Classification):
    """Whose first measure has a plain standard error."""

    main = ("accuracy",)


def test_intervals_over_sites_are_those_of_a_mean_of_sites() -> None:
    scores, labels, sites = many(30, 40, 0.6)
    saved("one", scores, labels, sites)
    row = over_sites(all_predictions(Path(), results(("one", "central", 0)), OfAccuracy(2)), OfAccuracy(2)).iloc[0]
    right = pd.Series({name: (scores[name] > 0.5) == labels[name] for name in scores}).groupby(sites).mean()
    assert (row["sites"], row["mean"], row["spread"]) == (30, pytest.approx(right.mean()), pytest.approx(right.std()))
    assert (row["worst_site"], row["worst"]) == (right.idxmin(), pytest.approx(right.min()))
    # The variance over sites holds that of their patients, who are drawn once more.
    within = (right * (1 - right) / 40).mean() / 30
    reach = 1.96 * np.sqrt(right.var() / 30 + within)
    assert [row["mean_low"], row["mean_high"]] == pytest.approx([right.mean() - reach, right.mean() + reach], abs=0.01)
    low, high = stats.binom.ppf([0.025, 0.975], 40, right.min()) / 40
    assert [row["worst_low"], row["worst_high"]] == pytest.approx([low, high], abs=0.03)
    assert row["pooled"] == pytest.approx(row["mean"]), "sites are of one size here"


def test_a_site_where_the_measure_is_undefined_does_not_count() -> None:
    sites = {"b1": "alone", "a1": "s", "a2": "s", "c1": "s", "d1": "t", "d2": "t"}
    saved("one", GOOD | {"d2": 0.85}, LABELS, sites)
    row = over_sites(all_predictions(Path(), results(("one", "central", 0)), TASK), TASK).iloc[0]
    assert (row["sites"], row["mean"], row["worst_site"], row["worst"]) == (2, 0.5, "t", 0.0)
    assert not row.isna().any()


def test_seeds_that_differ_widen_the_interval() -> None:
    scores, labels, sites = many(8, 30, 0.6)
    wrong = {name: 1 - value for name, value in scores.items()}
    for run, values in (("one", scores), ("two", wrong)):
        saved(run, values, labels, sites)
    row = over_sites(
        all_predictions(Path(), results(("one", "central", 0), ("two", "central", 1)), OfAccuracy(2)), OfAccuracy(2)
    ).iloc[0]
    assert row["pooled"] == pytest.approx(0.5)
    assert row["pooled_high"] - row["pooled_low"] > 0.3


def test_sites_that_are_held_out_in_turn_are_judged_by_models_of_their_own() -> None:
    sites = {image: "s" if image[0] in "ab" else "t" for image in LABELS}
    saved("one", {**POOR, "a1": 0.9, "a2": 0.1, "b1": 0.8}, LABELS, sites)  # of s all right, of t all wrong
    saved("two", {**POOR, "d1": 0.6}, LABELS, sites)  # one of two pairs of t
    table = results(("one", "central", 0), ("two", "central", 0), held_out={"one": "s", "two": "t"})
    row = over_sites(all_predictions(Path(), table, TASK), TASK).iloc[0]
    assert (row["mean"], row["worst_site"], row["worst"]) == (pytest.approx(0.75), "t", pytest.approx(0.5))
    assert row["pooled"] == pytest.approx(0.75)
