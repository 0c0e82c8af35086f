"""A sample is drawn by its seed alone, in batches that do not depend on the loader's."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from lit_dist import InputError
from lit_dist.visits.site_sample import sample


def rows(batch_size: int, records: int, seed: int = 0) -> list[list[int]]:
    loader = DataLoader(TensorDataset(torch.arange(200)), batch_size=batch_size, shuffle=True)
    return [batch[0].tolist() for batch in sample(loader, records, seed)]


def test_the_same_records_whatever_the_loader_s_batches() -> None:
    found = rows(8, 130)
    assert found == rows(32, 130)
    assert [len(batch) for batch in found] == [44, 43, 43]
    flat = [row for batch in found for row in batch]
    assert len(set(flat)) == 130
    assert flat == sorted(flat) != sorted(row for batch in rows(8, 130, seed=1) for row in batch)


def test_records_that_a_sampler_keeps_out_stay_out() -> None:
    dataset = TensorDataset(torch.arange(20))
    for sampler in (SubsetRandomSampler(range(10)), WeightedRandomSampler([1] * 10 + [0] * 10, 10), Own(range(10))):
        loader = DataLoader(dataset, batch_size=5, sampler=sampler)  # type: ignore[arg-type]
        [[found]] = sample(loader, 50, 0)
        assert found.tolist() == list(range(10))
    batches = DataLoader(dataset, batch_sampler=[[1, 2], [3]])
    assert [batch[0].tolist() for batch in sample(batches, 50, 0)] == [[1, 2, 3]]
    pairs = DataLoader(dataset, sampler=Own([(1, 2)]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="its Own gives what is not an index"):
        list(sample(pairs, 5, 0))


class Own(list[Any]):
    """A sampler of the user's."""


class Noisy(TensorDataset):
    """Has a generator of its own."""

    def __init__(self) -> None:
        super().__init__(torch.arange(20.0))
        self.noise = np.random.default_rng(3)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return (self.tensors[0][index] + self.noise.random(),)


def test_a_dataset_s_own_generator_is_left_where_it_was() -> None:
    dataset = Noisy()
    first = [batch[0] for batch in sample(DataLoader(dataset), 8, 0)]
    assert dataset.noise.random() == np.random.default_rng(3).random()
    assert torch.equal(first[0], next(iter(sample(DataLoader(dataset), 8, 0)))[0])


def test_nobody_else_draws_other_numbers_for_it() -> None:
    rows(8, 130)
    state = torch.get_rng_state()
    rows(32, 130)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loader_without_indices_gives_its_first_batches() -> None:
    batches: Any = [[torch.ones(4), 0], [torch.ones(4), 1], [torch.ones(4), 2]]
    assert [label for _, label in sample(iter(batches), 5, 0)] == [0, 1]


def test_too_few_records_are_said() -> None:
    with pytest.raises(InputError, match="it has 1 records, and 2 are needed"):
        list(sample(DataLoader(TensorDataset(torch.ones(1))), 64, 0, least=2))
