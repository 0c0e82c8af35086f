"""Datasets and samplers that make their generators of random numbers too late to be seeded."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset, Sampler

from lit_dist.utils.errors import InputError
from lit_dist.visits.seeded_loader import SeededLoaders


class Rows(Dataset[float]):
    """Makes a generator when a record is loaded: once, or anew for each record."""

    def __init__(self, once: bool) -> None:
        self.once = once
        self.random: Any = None

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> float:
        if self.random is None or not self.once:
            self.random = np.random.default_rng(row)
        return float(self.random.random())


class LateSampler(Sampler[int]):
    """Makes a generator when the first index is drawn."""

    random: Any = None

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[int]:
        self.random = self.random or np.random.default_rng(0)
        yield from self.random.permutation(6)


def passes(loader: DataLoader[Any]) -> list[list[float]]:
    seeded = SeededLoaders()
    return [[float(each) for each in seeded.begin_pass("a", loader, seed, 0)] for seed in (1, 2)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_generator_that_a_dataset_makes_in_its_first_record_is_refused(workers: int) -> None:
    with pytest.raises(InputError, match=r"Rows.* has made a generator of random numbers in its first batch"):
        passes(DataLoader(Rows(once=True), batch_size=1, num_workers=workers))
    own = DataLoader(Rows(once=False), batch_size=1, num_workers=workers)
    assert passes(own)[0] == [np.random.default_rng(row).random() for row in range(6)]


def test_so_is_one_of_a_sampler() -> None:
    with pytest.raises(InputError, match="LateSampler has made a generator"):
        passes(DataLoader([0.0] * 6, batch_size=None, sampler=LateSampler()))  # type: ignore[arg-type]
