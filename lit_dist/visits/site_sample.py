"""A seeded sample of the records of a loader, to look at them without drawing from it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from lit_dist.utils.errors import InputError

_AT_ONCE = 64


def sample(loader: Any, records: int, seed: int, least: int = 1) -> Iterator[Any]:
    """Batches of records of a loader's dataset, drawn without putting back, of up to 64 and as equal as can be.

    They do not depend on the size of the loader's own batches.

    Of a loader that has no dataset with indices they are the first ones that it gives. A dataset may draw
    from the global generators.

    Args:
        loader: The loader.
        records: How many records to take; all where there are fewer.
        seed: Decides which ones.
        least: How many there must be.

    Raises:
        InputError: If there are fewer than ``least``.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        yield from _first(loader, records)
        return
    size = min(records, len(loader.dataset))  # type: ignore[arg-type]
    if size < least:
        raise InputError(f"it has {size} records, and {least} are needed")
    drawn = np.sort(np.random.default_rng(seed).choice(len(loader.dataset), size, replace=False))  # type: ignore[arg-type]
    parts = -(-size // _AT_ONCE)
    batches = [part.tolist() for part in np.array_split(drawn, parts)]
    own = torch.Generator()  # else it draws a seed for its workers, which it has none of, from the global one
    yield from DataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn, generator=own)


def _first(loader: Any, records: int) -> Iterator[Any]:
    seen = 0
    for batch in loader:
        yield batch
        seen += len(inputs_of(batch))
        if seen >= records:
            return


def inputs_of(batch: Any) -> Any:
    """What of a batch goes into a network: the first of several, or all of it."""
    return batch[0] if isinstance(batch, list | tuple) else batch
