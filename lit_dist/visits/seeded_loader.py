"""A DataLoader whose batches are functions of a pass's seed: neither of a generator's past, nor of the workers."""

import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lit_dist.utils.errors import InputError
from lit_dist.visits.joint_loader import JointLoader
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
        self._copies: dict[Any, tuple[Any, Any, SeededIndices | None]] = {}

    def begin_pass(self, site: Any, original: Any, seed: int, rank: int) -> Iterator[Any]:
        """Begin a pass over a site's loader, with the pass's own seed."""
        if isinstance(original, JointLoader):
            return original.begin(
                lambda number, each, times: self.begin_pass(
                    (site, number), each, derive(seed, "loader", number, times), rank
                )
            )
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
        return site in self._copies and self._copies[site][2] is not None


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
        dataset = None if self._workers else loader.dataset  # each worker has its own
        self._generators = _Generators(dataset, indices)

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
                self._generators.seed(seed)
            try:
                index = next(indices)
            except StopIteration:
                return
            if not number:
                self._generators.seed(seed)
            yield _Sent(index, seed) if self._workers else index


class _Generators:
    """The generators of a dataset, and whether its first batch has made one.

    A generator that is made then draws other numbers where the run is resumed in another process, or made elsewhere,
    than where the same process has been there before.

    Args:
        dataset: The dataset.
        sampler: Its sampler, which is looked at, but not seeded.
    """

    def __init__(self, dataset: object, sampler: object = None) -> None:
        self._holders = dataset, sampler
        self._found = find_generators(dataset)
        self._known = set(map(id, find_generators(self._holders)))
        self._new: list[Any] = []
        self._looks = 0

    def seed(self, seed: int) -> None:
        """Seed them, and the global ones, for a batch.

        Raises:
            InputError: If the first batch has made another, and the second has kept it.
        """
        seed_generators(seed, self._found)
        self._looks += 1
        if self._looks == 2:
            self._new = [each for each in find_generators(self._holders) if id(each) not in self._known]
        elif self._looks == 3 and self._new:
            kept = set(map(id, find_generators(self._holders)))
            if any(id(each) in kept for each in self._new):
                names = " or ".join(type(holder).__name__ for holder in self._holders if holder is not None)
                raise InputError(
                    f"{names} has made a generator of random numbers in its first batch, so a run that is resumed or"
                    " made elsewhere would draw other numbers: make it in __init__"
                )


class _Sent:
    """An index on its way to a worker process, which seeds its generators as it receives it."""

    def __init__(self, index: Any, seed: int) -> None:
        self.index = index
        self.seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.index, self.seed)


_generators: _Generators | None = None  # of the worker's dataset


def _received(index: Any, seed: int) -> Any:
    global _generators
    worker = get_worker_info()
    assert worker is not None
    if _generators is None:
        _generators = _Generators(worker.dataset)
    try:
        _generators.seed(seed)
    except InputError as error:
        return _Refused(error)
    return index


class _Refused:
    """Stands for an index that is not to be loaded: a worker that fails as it receives one would end without a word."""

    def __init__(self, error: InputError) -> None:
        self._error = error

    def _refuse(self, *_: Any) -> NoReturn:
        raise self._error

    __iter__ = __getitem__ = __index__ = __hash__ = _refuse
