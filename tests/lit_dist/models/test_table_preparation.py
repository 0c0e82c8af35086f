"""TablePreparation: nothing is missing behind it, and what it knows is what numpy says."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_dist.models.table_preparation import TablePreparation
from lit_dist.utils.errors import InputError

NAN = torch.nan


def learnt(records: Tensor, targets: Tensor | None = None, parts: int = 1, **kwargs: Any) -> TablePreparation:
    preparation = TablePreparation(**{"numeric": records.shape[1], "least": 1, **kwargs})
    wanted = torch.zeros(len(records)) if targets is None else targets
    sites = zip(records.tensor_split(parts), wanted.tensor_split(parts), strict=True)
    preparation.learn([preparation.columns.of([site]) for site in sites])
    return preparation


def test_columns_are_standardised_by_all_sites_records_together() -> None:
    records = torch.randn(301, 4, generator=torch.Generator().manual_seed(0)) * 3e4 + 1e6
    found = learnt(records, parts=3)(records)
    exact = records.double().numpy()
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    assert np.allclose(found, expected, atol=2e-3)
    assert torch.equal(learnt(records, parts=3).mean, learnt(records, parts=3).mean)


def test_what_is_missing_is_the_mean_and_has_an_indicator() -> None:
    records = torch.tensor([[1.0, NAN], [3.0, NAN], [NAN, NAN]])
    assert learnt(records)(records).tolist() == [[-1, 0], [1, 0], [0, 0]]
    told = learnt(records, indicators=True)(records)
    assert told[:, 2:].tolist() == [[0, 1], [0, 1], [1, 1]]


def test_nothing_that_comes_out_is_nan_or_infinite() -> None:
    preparation = learnt(torch.tensor([[1.0, 5.0, 2.0], [1.0, NAN, 2.0]]), numeric=2, categorical=1)
    strange = torch.tensor([[torch.inf, -torch.inf, NAN], [NAN, 1e38, torch.inf], [3.0, 0.0, -torch.inf], [0, 0, 1e38]])
    assert preparation(strange).isfinite().all()
    assert (preparation(strange)[:, :2] == 0).all(), "columns of one value say nothing"


def test_medians_are_found_by_counting() -> None:
    values = torch.tensor([1.0] * 5 + [3.0] * 5 + [90.0] * 2)[:, None]
    preparation = learnt(values, ranges=[[0.0, 100.0]], bins=100)
    assert preparation.fill.item() == pytest.approx(3.0, abs=1.0)
    assert preparation.mean.item() == pytest.approx(values.mean().item())
    assert learnt(values[:0].new_full((3, 1), NAN), ranges=[[0.0, 1.0]]).fill.item() == 0


def test_ranges_that_values_are_not_in_and_medians_of_few_are_said() -> None:
    values = torch.arange(160.0, 190.0)[:, None]
    with pytest.raises(InputError, match=r"column 1 is 174\.5, and its values are counted from 0 to 1"):
        learnt(values, ranges=[[0.0, 1.0]])
    with pytest.warns(UserWarning, match="medians of the numeric columns 1 .* have 5 records"):
        learnt(values, ranges=[[150.0, 200.0]], bins=50, least=5)


@pytest.mark.parametrize("seed", range(5))
def test_a_median_is_within_a_bin_of_numpys(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2.0, 10.0, 999).astype(np.float32)
    preparation = learnt(torch.from_numpy(values)[:, None], ranges=[[0.0, 128.0]], bins=64)
    assert preparation.fill.item() == pytest.approx(float(np.median(values)), abs=2.0)


def test_known_categories_have_a_place_each_and_others_none() -> None:
    records = torch.tensor([[7.0, 2.0]] * 3 + [[4.0, 2.0]] * 2 + [[9.0, 2.0]])
    with pytest.warns(UserWarning, match="1 of the 3 categories of the categorical column 1"):
        preparation = learnt(records, numeric=0, categorical=2, slots=2)
    asked = torch.tensor([[7.0, 2.0], [4.0, 0.0], [9.0, NAN], [7.4, 2.0]])
    assert preparation(asked).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]]
    assert preparation.features == 4


def test_targets_are_learnt_where_asked_for() -> None:
    preparation = learnt(torch.zeros(3, 1), torch.tensor([50.0, 60.0, 70.0]), target=True)
    assert preparation.target_mean == 60
    assert preparation.target_deviation.item() == pytest.approx(np.std([50, 60, 70]))
    assert learnt(torch.zeros(3, 1), torch.full((3,), 4.0), target=True).target_deviation == 1


def test_what_it_knows_is_saved_with_the_weights() -> None:
    records = torch.tensor([[1.0, 3.0], [2.0, 3.0]])
    preparation = learnt(records, numeric=1, categorical=1)
    other = TablePreparation(1, 1)
    other.load_state_dict(preparation.state_dict())
    assert torch.equal(other(records), preparation(records))
    assert not list(preparation.parameters()), "nothing here is trained"


def test_half_precision_and_other_columns_are_refused() -> None:
    preparation = learnt(torch.tensor([[1.0], [2.0]]))
    with pytest.raises(InputError, match=r"comes? as torch.bfloat16, which rounds them"):
        preparation(torch.ones(2, 1, dtype=torch.bfloat16))
    with pytest.raises(InputError, match=r"shape \(2, 3\), and the model is for \(records, 1\)"):
        preparation(torch.ones(2, 3))
    assert preparation.double()(torch.tensor([[1.0]], dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numeric": 0}, "give one at least"),
        ({"numeric": -1, "categorical": 2}, "give one at least"),
        ({"numeric": 1, "slots": 0}, "slots=0"),
        ({"numeric": 1, "least": 0}, "least=0"),
        ({"numeric": 1, "bins": 10**9}, "bins="),
        ({"numeric": 2, "ranges": [[0, 1]]}, "are not 2 pairs"),
        ({"numeric": 1, "ranges": [[1, 1]]}, "are not 1 pairs"),
        ({"numeric": 1, "ranges": [[0, torch.nan]]}, "are not 1 pairs"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TablePreparation(**settings)


def test_no_site_with_enough_records_is_said() -> None:
    with pytest.raises(InputError, match="no site has 9 training records"):
        learnt(torch.zeros(4, 1), least=9)
