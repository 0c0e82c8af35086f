"""A sample is drawn by its seed alone, in batches that do not depend on the loader's."""

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

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


def test_nobody_else_draws_other_numbers_for_it() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    rows(8, 130)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_without_indices_gives_its_first_batches() -> None:
    batches: Any = [[torch.ones(4), 0], [torch.ones(4), 1], [torch.ones(4), 2]]
    assert [label for _, label in sample(iter(batches), 5, 0)] == [0, 1]


def test_too_few_records_are_said() -> None:
    with pytest.raises(InputError, match="it has 1 records, and 2 are needed"):
        list(sample(DataLoader(TensorDataset(torch.ones(1))), 64, 0, least=2))
