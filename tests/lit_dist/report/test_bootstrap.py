import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from lit_dist.report.bootstrap import compare, compare_over_seeds, holm, patients_drawn, seeds_drawn


def test_the_p_value_is_rarely_small_where_there_is_no_difference() -> None:
    chance = np.random.default_rng(2)
    often = torch.cat(list(patients_drawn(np.arange(80), 1000)))
    small = []
    for _ in range(200):
        change = torch.from_numpy((chance.random(80) < 0.7) * 1.0 - (chance.random(80) < 0.7))
        drawn: NDArray[np.float64] = (often @ change / 80).numpy()
        small.append(compare(change.mean().item(), 0.0, drawn)["p"] < 0.05)
    assert 0.01 < np.mean(small) < 0.12


def test_three_seeds_that_differ_more_than_patients_rarely_find_a_difference_that_is_not_there() -> None:
    chance = np.random.default_rng(0)
    often = seeds_drawn(3, 1000, chance).T / 2
    p = []
    for _ in range(400):
        values = chance.normal(0, 1, 3) + chance.normal(0, 0.1)
        drawn = values[:, None] + chance.normal(0, 0.1, 1000)
        found = compare_over_seeds(
            values.mean(), 0.0, (drawn * often).sum(axis=0), (values[:, None] * often).sum(axis=0), 3
        )
        assert (found["p"] < 0.05) == (found["low"] > 0 or found["high"] < 0)
        p.append(found["p"])
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.11
    assert np.mean(np.array(p) < 0.05 / 21) < 0.05, "as for Holm's least p of seven heuristics"


def test_seeds_that_vary_alone_are_compared_by_a_paired_t_test() -> None:
    values = np.array([0.05, 0.08, 0.03, 0.02, 0.06])
    often = seeds_drawn(5, 100_000, np.random.default_rng(0)).T / 4
    drawn = (values[:, None] * often).sum(axis=0)
    found = compare_over_seeds(values.mean(), 0.0, drawn, drawn, 5, most=0.06)
    expected = stats.ttest_1samp(values, 0)
    assert found["p"] == pytest.approx(expected.pvalue, rel=0.03)
    assert found["low"] == pytest.approx(expected.confidence_interval().low, abs=0.001)
    assert found["high"] == 0.06, "no difference is greater"


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_difference_that_no_resample_changes_has_no_p(seeds: int) -> None:
    drawn = np.full(100, 0.5)
    found = compare_over_seeds(1.0, 0.5, drawn, drawn, seeds)
    assert found["difference"] == 0.5
    assert np.isnan([found["low"], found["high"], found["p"]]).all()
    assert compare_over_seeds(0.5, 0.5, drawn * 0, drawn * 0, seeds)["p"] == 1


def test_p_values_are_adjusted_as_by_the_text_book() -> None:
    p = np.random.default_rng(0).random(12) ** 3
    order = np.argsort(p)
    expected, most = np.empty(12), 0.0
    for place, index in enumerate(order):
        most = max(most, min(1.0, (12 - place) * p[index]))
        expected[index] = most
    assert holm(p) == pytest.approx(expected)


def test_means_of_drawn_seeds_vary_as_means_of_seeds_do() -> None:
    values = np.array([0.7, 0.8, 0.75])
    often = seeds_drawn(3, 100_000, np.random.default_rng(0))
    drawn = often @ values / often.sum(axis=1)
    assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(3), rel=0.01)
    assert seeds_drawn(1, 2, np.random.default_rng(0)).tolist() == [[1], [1]]
