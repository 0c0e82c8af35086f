"""A weighted mean of which only the sum is kept."""

from typing import Any

import pytest
import torch

from lit_dist.utils.errors import InputError
from lit_dist.visits.running_mean import RunningMean


def mean(*states: tuple[Any, float], what: str | None = None) -> Any:
    running = RunningMean(what)
    for state, weight in states:
        running.add(state, weight)
    return running.value(states[0][0])


def test_it_is_formed_in_double_precision_in_the_given_order() -> None:
    values = [torch.rand(50) for _ in range(7)]
    found = mean(*(({"w": value}, number + 1) for number, value in enumerate(values)))["w"]
    total = torch.zeros(50, dtype=torch.float64)
    for number, value in enumerate(values):
        total += (number + 1) * value.double()
    assert torch.equal(found, (total / 28).float())


def test_a_single_state_is_its_own_mean() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64):
        value = torch.rand(100).to(dtype)
        assert torch.equal(mean(({"w": value}, 7.0))["w"], value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_a_mean_has_the_dtype_of_the_state(dtype: torch.dtype) -> None:
    found = mean(({"w": torch.ones(2, dtype=dtype)}, 1), ({"w": torch.full((2,), 2, dtype=dtype)}, 3))["w"]
    assert (found.dtype, found.real.tolist()) == (dtype, [1.75, 1.75])


def test_what_has_no_mean_is_that_of_the_last_of_a_modules_weights() -> None:
    states = [{"count": torch.tensor(count), "mask": torch.tensor(count > 3), "extra": "x"} for count in (5, 3)]
    found = mean((states[0], 9), (states[1], 1))
    assert (found["count"].item(), found["mask"].item(), found["extra"]) == (3, False, "x")


def test_what_has_no_mean_must_be_the_same_in_all_of_other_state() -> None:
    assert mean(({"n": 1, "f": 1.0}, 1), ({"n": 1, "f": 2.0}, 1), what="it") == {"n": 1, "f": 1.5}
    for one, other in ((1, 2), ("a", "b"), (True, 1), (torch.tensor(1), torch.tensor(2)), (torch.tensor(1), 1)):
        with pytest.raises(InputError, match="it/n differs between the visits that are merged"):
            mean(({"n": one}, 1), ({"n": other}, 1), what="it")


def test_it_is_resumed_from_its_sum() -> None:
    whole, first = RunningMean(), RunningMean()
    states = [{"w": torch.rand(9)} for _ in range(3)]
    for state in states:
        whole.add(state, 3)
    first.add(states[0], 3)
    resumed = RunningMean(None, first.total, first.sums)
    for state in states[1:]:
        resumed.add(state, 3)
    assert torch.equal(resumed.value(states[0])["w"], whole.value(states[0])["w"])
    assert torch.equal(first.value(states[0])["w"], states[0]["w"]), "the sum that it was resumed from is as it was"
