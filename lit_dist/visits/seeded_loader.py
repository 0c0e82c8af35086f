"""A DataLoader whose batches are functions of a pass's seed: neither of a generator's past, nor of the workers."""

import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lit_dist.visits.seeding import GENERATORS, derive, find_generators, seed_generator, seed_generators


def seeded_loader(loader: Any) -> tuple[Any, "SeededIndices | None"]:
    """A copy of a DataLoader that seeds all generators before each batch that it loads.

    It has the loader's own dataset, sampler and number of workers. Each batch is seeded in the process that loads it:
    in Python's ``random``, numpy's and torch's global generators, and in those that the dataset holds, as the
    transforms of MONAI and Albumentations do. So a batch is the same one with any number of workers, whether they are
    kept from one pass to the next, and after an interruption.

    Returns:
        The copy, and what is given the seed of the coming pass. Where the dataset has no indices, the loader itself.
    """
    own = isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__
    if not own or isinstance(loader.dataset, IterableDataset):
        return loader, None
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    indices = SeededIndices(getattr(loader, name), loader)
    seeded = copy.copy(loader)
    vars(seeded).update({name: indices, "_iterator": None})  # a DataLoader lets no one set its sampler
    return seeded, indices


class SeededLoaders:
    """The seeded copies of the sites' loaders that have been drawn from."""

    def __init__(self) -> None:
        self._copies: dict[str, tuple[Any, Any, SeededIndices | None]] = {}

    def begin_pass(self, site: str, original: Any, seed: int, rank: int) -> Iterator[Any]:
        """Begin a pass over a site's loader, with the pass's own seed."""
        if site not in self._copies or self._copies[site][0] is not original:
            self._copies[site] = original, *seeded_loader(original)
        _, loader, indices = self._copies[site]
        if indices is not None:
            indices.seed, indices.rank = seed, rank
        _seed_samplers(loader, seed)
        seed_generators(seed)  # for loaders that draw their order from a global generator, as RandomSampler does
        if getattr(loader, "_iterator", None) is not None:  # which draws a number where its workers are new
            torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        return iter(loader)

    def seed_batches(self, site: str) -> bool:
        """Whether a site's copy seeds each batch that it loads."""
        return self._copies[site][2] is not None


def _seed_samplers(loader: object, seed: int) -> None:
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = [getattr(holder, "sampler", None) for holder in (loader, batch_sampler)]
    for sampler in samplers:
        seed_pass = getattr(sampler, "seed_pass", None) or getattr(sampler, "set_epoch", None)
        if callable(seed_pass):
            seed_pass(seed)
    for holder in (loader, batch_sampler, *samplers):
        for generator in vars(holder).values() if hasattr(holder, "__dict__") else ():
            if isinstance(generator, GENERATORS):
                seed_generator(generator, seed)


class SeededIndices:
    """Stands for a loader's sampler, and seeds what draws an index or loads what it names.

    Args:
        indices: The sampler.
        loader: Its loader.

    Attributes:
        seed: The seed of the coming pass.
        rank: The process's rank: processes do not augment alike.
    """

    def __init__(self, indices: Iterable[Any], loader: "DataLoader[Any]") -> None:
        self.seed = 0
        self.rank = 0
        self._indices = indices
        self._workers = loader.num_workers > 0
        self._generators = [] if self._workers else find_generators(loader.dataset)

    def __len__(self) -> int:
        return len(self._indices)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._indices, name)

    def __iter__(self) -> Iterator[Any]:
        indices = iter(self._indices)  # the first one is drawn with the pass's own seed, each other with its batch's
        pass_ = self.seed
        for number in itertools.count():
            seed = derive(pass_, "batch", number, self.rank)
            if number:
                seed_generators(seed, self._generators)
            try:
                index = next(indices)
            except StopIteration:
                return
            if not number:
                seed_generators(seed, self._generators)
            yield _Sent(index, seed) if self._workers else index


class _Sent:
    """An index on its way to a worker process, which seeds its generators as it receives it."""

    def __init__(self, index: Any, seed: int) -> None:
        self.index = index
        self.seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.index, self.seed)


_generators: list[Any] | None = None  # of the worker's dataset


def _received(index: Any, seed: int) -> Any:
    global _generators
    worker = get_worker_info()
    assert worker is not None
    if _generators is None:
        _generators = find_generators(worker.dataset)
    seed_generators(seed, _generators)
    return index
