"""A seeded sample of the records of a loader, to look at them without drawing from it."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from lit_dist.utils.errors import InputError
from lit_dist.visits.batch_size import batch_size
from lit_dist.visits.seeding import find_generators, generators_kept, seed_generators

_AT_ONCE = 64


def sample(loader: Any, records: int, seed: int, least: int = 1) -> Iterator[Any]:
    """Batches of records that a loader may give, drawn without putting back, of up to 64 and as equal as can be.

    They do not depend on the size of the loader's own batches. Of a loader that has no dataset with indices they are
    the first ones that it gives. The global generators are seeded; those that the dataset holds are left where they
    were.

    Args:
        loader: The loader.
        records: How many records to take; all where there are fewer.
        seed: Decides which ones.
        least: How many there must be.

    Raises:
        InputError: If there are fewer than ``least``.
    """
    generators = find_generators(getattr(loader, "dataset", None))
    with generators_kept(generators):
        seed_generators(seed, generators)
        known = _records_of(loader)
        if known is None:
            yield from _first(loader, records)
            return
        size = min(records, len(known))
        if size < least:
            raise InputError(f"it has {size} records, and {least} are needed")
        drawn = known[np.sort(np.random.default_rng(seed).choice(len(known), size, replace=False))]
        batches = [part.tolist() for part in np.array_split(drawn, -(-size // _AT_ONCE))]
        own = torch.Generator()  # else it draws a seed for its workers, which it has none of, from the global one
        yield from DataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn, generator=own)


def _records_of(loader: Any) -> NDArray[np.int64] | None:
    """The indices of the records that a loader gives; None if it has none."""
    if (
        not isinstance(loader, DataLoader)
        or isinstance(loader.dataset, IterableDataset)
        or loader.batch_sampler is None
    ):
        return None
    sampler: Any = loader.sampler
    if not isinstance(loader.batch_sampler, BatchSampler):
        drawn = [index for batch in copy.deepcopy(loader.batch_sampler) for index in batch]
    elif isinstance(sampler, WeightedRandomSampler):
        drawn = sampler.weights.nonzero()[:, 0].tolist()
    elif hasattr(sampler, "indices"):
        drawn = list(sampler.indices)
    elif isinstance(sampler, SequentialSampler | RandomSampler | DistributedSampler):
        return np.arange(len(loader.dataset))  # type: ignore[arg-type]
    else:
        drawn = list(copy.deepcopy(sampler))
    if not all(isinstance(index, int) for index in drawn):
        raise InputError(f"its {type(sampler).__name__} gives what is not an index")
    return np.unique(np.array(drawn, np.int64))


def _first(loader: Any, records: int) -> Iterator[Any]:
    seen = 0
    for batch in loader:
        yield batch
        seen += batch_size(batch)
        if seen >= records:
            return


def inputs_of(batch: Any) -> Any:
    """What of a batch goes into a network: the first of several, or all of it."""
    return batch[0] if isinstance(batch, list | tuple) else batch
