from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lit_dist.report.intervals import all_predictions
from lit_dist.report.over_sites import at_each_site, over_sites
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.ordinal import OrdinalGrades
from saved_runs import GOOD, LABELS, POOR, TASK, results, saved


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
    assert row.index[row.isna()].tolist() == ["worst_low", "worst_high"], "no resample of one pair differs"


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


def test_the_mean_of_few_sites_varies_as_means_of_so_many_do() -> None:
    scores, labels, sites = many(4, 500, 0.4)
    skill = {"s0": 0.5, "s1": 0.6, "s2": 0.7, "s3": 0.8}
    chance = np.random.default_rng(0)
    scores = {name: 0.8 if (chance.random() < skill[sites[name]]) == labels[name] else 0.2 for name in scores}
    saved("one", scores, labels, sites)
    row = over_sites(all_predictions(Path(), results(("one", "central", 0)), OfAccuracy(2)), OfAccuracy(2)).iloc[0]
    right = pd.Series({name: (scores[name] > 0.5) == labels[name] for name in scores}).groupby(sites).mean()
    assert row["mean_high"] - row["mean_low"] == pytest.approx(2 * 1.96 * right.std() / np.sqrt(4), rel=0.1)


def test_a_site_of_one_patient_has_no_interval() -> None:
    sites = {image: "s" if image[0] == "a" else "t" for image in LABELS}
    saved("one", GOOD, LABELS, sites)
    found = all_predictions(Path(), results(("one", "central", 0)), OfAccuracy(2))
    alone = at_each_site(found, OfAccuracy(2)).set_index("site").loc["s"]
    assert (alone["patients"], alone["value"]) == (1, 1.0)
    assert np.isnan([alone["low"], alone["high"]]).all()


def test_a_seed_without_a_value_at_a_site_leaves_the_others_theirs() -> None:
    labels = {"a1": 1, "b1": 1, "c1": 0, "d1": 1}
    sites = {"a1": "s", "b1": "s", "c1": "t", "d1": "t"}
    saved("one", dict.fromkeys(labels, 0.9), labels, sites)  # at s nothing but one grade, in both seeds' truth
    saved("two", {"a1": 0.1, "b1": 0.9, "c1": 0.1, "d1": 0.9}, labels, sites)
    task = OrdinalGrades(2)
    found = all_predictions(Path(), results(("one", "central", 0), ("two", "central", 1)), task)
    assert at_each_site(found, task).set_index("site")["value"].to_dict() == {"s": 0.0, "t": 0.5}
    assert over_sites(found, task).iloc[0]["sites"] == 2


def test_sites_that_are_held_out_in_turn_are_judged_by_models_of_their_own() -> None:
    sites = {image: "s" if image[0] in "ab" else "t" for image in LABELS}
    saved("one", {**POOR, "a1": 0.9, "a2": 0.1, "b1": 0.8}, LABELS, sites)  # of s all right, of t all wrong
    saved("two", {**POOR, "d1": 0.6}, LABELS, sites)  # one of two pairs of t
    table = results(("one", "central", 0), ("two", "central", 0), held_out={"one": "s", "two": "t"})
    row = over_sites(all_predictions(Path(), table, TASK), TASK).iloc[0]
    assert (row["mean"], row["worst_site"], row["worst"]) == (pytest.approx(0.75), "t", pytest.approx(0.5))
    assert row["pooled"] == pytest.approx(0.75)


def test_each_site_has_an_interval_of_its_own_patients() -> None:
    scores, labels, sites = many(3, 200, 0.6)
    saved("one", scores, labels, sites)
    table = at_each_site(all_predictions(Path(), results(("one", "central", 0)), OfAccuracy(2)), OfAccuracy(2))
    right = pd.Series({name: (scores[name] > 0.5) == labels[name] for name in scores}).groupby(sites).mean()
    assert table["site"].tolist() == list(right.index)
    assert table["value"].tolist() == pytest.approx(right.tolist())
    assert set(table["n"]) == set(table["patients"]) == {200}
    for row in table.to_dict("records"):
        reach = 1.96 * np.sqrt(row["value"] * (1 - row["value"]) / 200)
        assert [row["low"], row["high"]] == pytest.approx([row["value"] - reach, row["value"] + reach], abs=0.015)
