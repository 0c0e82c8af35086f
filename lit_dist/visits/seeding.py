"""Seeds that depend on the run's seed, the visit and the sample, and on nothing else.

A visit must give the same weights whichever process runs it, however many workers load its images, and whatever ran
before it. So no random number is drawn from a generator that lives longer than one pass or one step: every one of them
is seeded here, by a hash of what it is for.
"""

import copy
import functools
import hashlib
import os
import random
import types
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_dist.utils.attributes import own_attributes
from lit_dist.utils.errors import InputError


def derive(*parts: int | str) -> int:
    """Hash ``parts`` to a seed of 62 bits.

    The result is the same on every machine and Python version, unlike that of ``hash``.

    Args:
        *parts: What the seed is for, for example the run's seed, a purpose and a number.

    Example:
        >>> derive(0, "pass", 3, 0) == derive(0, "pass", 3, 0)
        True
        >>> derive(0, "pass", 3, 0) == derive(0, "pass", 3, 1)
        False
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def run_seed(seed: int | None = None) -> int:
    """The seed of a run: the given one, else that of Lightning's ``seed_everything``, else 0."""
    return seed if seed is not None else int(os.environ.get("PL_GLOBAL_SEED", "0"))


def check_seed(seed: object, name: str) -> None:
    """Raise ``InputError`` for a whole number, the setting ``name``, that ``seed_everything`` does not take."""
    if isinstance(seed, int) and not 0 <= seed < 2**32:
        raise InputError(f"{name}={seed} is not a number from 0 to {2**32 - 1}")


def pass_seed(seed: int, visit: int, number: int) -> int:
    """The seed of one pass over a site's images: it decides their order.

    Args:
        seed: The run's seed.
        visit: The visit's number; -1 in a run without visits.
        number: The pass's number within the visit, or the epoch's number in the run, from 0.
    """
    return derive(seed, "epoch", number) if visit < 0 else derive(seed, "pass", visit, number)


_STRIDE = np.uint64(0x9E3779B97F4A7C15)


def sample_seeds(pass_: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The seeds of images' augmentation: the numbers of SplitMix64 that its pass's seed gives, by an image's row.

    Args:
        pass_: The pass's seed.
        rows: The images' indices in the site's images, (images,).
    """
    return _mixed(np.uint64(pass_) + (rows.astype(np.uint64) + np.uint64(1)) * _STRIDE)


def uniforms(seeds: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """Draw numbers between 0 and 1 for a whole batch: the first ones of each seed's SplitMix64.

    That generator needs no state, so none is made for each image. Source: Steele, Lea and Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014, https://doi.org/10.1145/2660193.2660195.

    Args:
        seeds: One an image, (images,).
        count: How many numbers to draw for each.

    Returns:
        (images, count), from 0 up to but not including 1.

    Example:
        >>> bool((uniforms(np.array([7, 8], np.uint64), 3)[1] == uniforms(np.array([8], np.uint64), 3)[0]).all())
        True
    """
    bits = _mixed(seeds.astype(np.uint64)[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STRIDE)
    return (bits >> np.uint64(11)).astype(np.float64) * np.float64(2.0**-53)


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def step_seed(pass_: int, step: int, rank: int = 0) -> int:
    """The seed of one training step: it decides dropout and whatever else the network draws.

    Args:
        pass_: The seed of the pass that the visit's epoch, or the visit itself if it is shorter, began with.
        step: The batch's number since then, from 0.
        rank: The process's rank, so that processes do not drop the same units.
    """
    return derive(pass_, "step", step, rank)


GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random)
"""The kinds of generators that a sampler, a dataset or a transform may hold."""


def find_generators(holder: object, others: Collection[int] = (), most: int = 10_000) -> list[Any]:
    """The generators that an object holds, or an object that it holds: those of a dataset's transforms, for example.

    Args:
        holder: The object.
        others: The ids of objects that are not looked at.
        most: How many objects to look at.

    Returns:
        Generators of torch, of numpy and of Python's ``random``, in the order in which they are found.

    Example:
        >>> find_generators({"transforms": [random.Random(0)]})
        [<random.Random object at 0x...>]
    """
    found: list[Any] = []
    waiting, seen = [holder], {id(holder)}
    while waiting and len(seen) < most:
        item = waiting.pop(0)
        if isinstance(item, GENERATORS):
            found.append(item)
            continue
        for one in _held(item)[:1000]:  # a list of many is one of records, not of transforms
            if id(one) not in seen and id(one) not in others and not isinstance(one, str | bytes | int | float | None):
                seen.add(id(one))
                waiting.append(one)
    return found


def _held(item: Any) -> list[Any]:
    """What an object holds."""
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, list | tuple | set):
        return list(item)
    if isinstance(item, functools.partial):
        return [item.func, item.args, item.keywords]
    if isinstance(item, types.MethodType):
        return [item.__self__]
    if isinstance(item, types.FunctionType):
        return [value for cell in item.__closure__ or () for value in _content(cell)]
    if isinstance(item, type | torch.Tensor | np.ndarray) or type(item).__module__.startswith("lightning."):
        return []
    return list(own_attributes(item).values())


def _content(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


class ModuleGenerators:
    """The generators that a module and its parts hold, but for those of the trainer that it is attached to.

    They are looked for before a first step and after it, in which the module may have made some.

    Attributes:
        found: Each by a name that does not depend on the others.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.found: dict[str, Any] = {}
        self._module = module
        self._looks = 0

    def begin(self) -> None:
        """Look anew, twice."""
        self._looks = 0

    def look(self) -> bool:
        """Look for them, unless that was done twice; whether the first step has made one."""
        if self._looks > 1:
            return False
        before, self._looks = len(self.found), self._looks + 1
        parts = {id(part) for part in self._module.modules()}  # a hook or a list may have them, too
        self.found = {
            f"{part}.{name}.{number}": generator
            for part, own in self._module.named_modules()
            for name, value in vars(own).items()
            if name not in ("_modules", "_parameters", "_buffers", "_trainer", "_fabric") and not _is_bare(value)
            for number, generator in enumerate(find_generators(value, parts))
        }
        return self._looks > 1 and len(self.found) > before


def _is_bare(value: object) -> bool:
    """Whether a value holds nothing: most attributes of a layer are numbers and hooks that nobody has set."""
    return type(value) in (bool, int, float, str, types.NoneType) or (type(value) in (dict, OrderedDict) and not value)


@contextmanager
def generators_kept(generators: Sequence[Any]) -> Iterator[None]:
    """Let generators be after the block where they were before it."""
    states = [_state(each) for each in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            _put_state(generator, state)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return copy.deepcopy(generator.bit_generator.state)
    if isinstance(generator, np.random.BitGenerator):
        return copy.deepcopy(generator.state)
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _put_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def seed_generators(
    seed: int, others: Sequence[Any] | Mapping[str, Any] = (), device: torch.device | None = None
) -> None:
    """Seed the global generators of torch, a device, numpy and Python's ``random``, and others by place or name."""
    seed_torch(seed, device or torch.device("cpu"))
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    for name, generator in others.items() if isinstance(others, Mapping) else enumerate(others):
        seed_generator(generator, derive(seed, name))


def seed_generator(generator: Any, seed: int) -> None:
    """Seed one generator, of any of the kinds in ``GENERATORS``."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        seed_generator(generator.bit_generator, seed)
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = type(generator)(seed).state
    else:
        generator.seed(seed if isinstance(generator, random.Random) else seed & 0xFFFFFFFF)


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of ``device``.

    ``torch.manual_seed`` does the same for every device that there may be, at eighty times the cost on a machine that
    has none.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
