import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lit_dist.report.bootstrap import compare, holm, patients_drawn, seeds_drawn


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


def test_means_of_drawn_seeds_vary_as_means_of_seeds_do() -> None:
    values = np.array([0.7, 0.8, 0.75])
    often = seeds_drawn(3, 100_000, np.random.default_rng(0))
    drawn = often @ values / often.sum(axis=1)
    assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(3), rel=0.01)
    assert seeds_drawn(1, 2, np.random.default_rng(0)).tolist() == [[1], [1]]
