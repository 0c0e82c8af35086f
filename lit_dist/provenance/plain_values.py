"""Any values as JSON that is the same in every process: what a hash of settings is made of."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import random
import sys
import types
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from copyreg import dispatch_table
from datetime import date, time, timedelta
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import Dataset

from lit_dist.checkpoints.tensor_file import bytes_of, on_cpu
from lit_dist.utils.attributes import own_attributes
from lit_dist.utils.errors import InputError

_MOST = 100_000  # objects in one setting
_MACHINERY = {
    *("_io", "_thread", "_weakref", "asyncio", "concurrent", "io", "lightning", "logging", "multiprocessing"),
    *("pytorch_lightning", "queue", "select", "selectors", "socket", "ssl", "subprocess", "tempfile", "threading"),
    *("torch.cuda", "torch.distributed", "torch.profiler", "torch.utils", "weakref"),
}
"""Packages whose objects hold what says nothing about settings, such as a trainer, a lock or a data set."""

_OTHERS = {*sys.stdlib_module_names, "lightning", "numpy", "pytorch_lightning", "torch", "torchvision"}
"""Packages whose classes have attributes that no user has set."""

_FIRST_ADDRESSES = {
    "lit_dist.callbacks.heuristics.cyclical_weight_transfer": "lit_dist.callbacks.cyclical",
    "lit_dist.callbacks.heuristics.single_weight_transfer": "lit_dist.callbacks.single",
    "lit_dist.callbacks.heuristics.weight_transfer": "lit_dist.callbacks.weight_transfer",
    "lit_dist.checkpoints.checkpoint_io": "lit_dist.checkpoint_io",
    "lit_dist.datamodules.folders": "lit_dist.datamodules.imagenet",
    "lit_dist.datamodules.images.albumentations_augmentation": "lit_dist.datamodules.albumentations_augmentation",
    "lit_dist.datamodules.images.augmentation": "lit_dist.datamodules.augmentation",
    "lit_dist.datamodules.images.device_augmentation": "lit_dist.datamodules.device_augmentation",
    "lit_dist.datamodules.images.normalisation": "lit_dist.datamodules.normalisation",
    "lit_dist.datamodules.mammography.datamodule": "lit_dist.datamodules.mammography",
    "lit_dist.models.backbones": "lit_dist.backbone",
    "lit_dist.models.classifier": "lit_dist.classifier",
    "lit_dist.models.ensemble": "lit_dist.ensemble",
    "lit_dist.models.metrics": "lit_dist.metrics",
    "lit_dist.models.site_reports": "lit_dist.site_reports",
    "lit_dist.models.slim_resnet": "lit_dist.slim_resnet",
    "lit_dist.provenance.entry": "lit_dist.ledger",
    "lit_dist.provenance.ledger": "lit_dist.ledger",
    "lit_dist.visits.itinerary": "lit_dist.itinerary",
    "lit_dist.visits.site_loader": "lit_dist.site_loader",
}
"""Modules by the names that they had when hashes were first made of the classes and functions in them."""

Inner = Callable[[Any], Any]
"""Gives what stands for a part of a value."""

_OF_EVERY_MODULE = {*vars(nn.Module()), "__annotations__"}


@dataclasses.dataclass
class _Walk:
    """One way through a value: which tensors are trained, and how many objects it may still meet."""

    trained: frozenset[int]
    left: int = _MOST

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise InputError(f"a setting cannot be hashed: it holds more than {_MOST} objects")


def plain_json(value: Any, trained: frozenset[int] = frozenset()) -> str:
    """A value as JSON.

    What JSON has stands for itself; keys that are not text, and all else, are told apart by their type. A tensor or an
    array counts by its bytes, a function by its name (a lambda or an inner one by what it does, too), a module by its
    parts, their attributes, parameters and buffers, a generator of random numbers by its state, an optimizer by its
    options, and another object by its class and its attributes, those of its class included: never by an address.

    Args:
        value: Anything.
        trained: The ``id`` of tensors that are being trained, which count by their shape alone.

    Raises:
        InputError: If it is nested too deeply, or holds too many objects.

    Example:
        >>> plain_json({"b": (1, 2), "a": {1: {"y", "x"}}})
        '{"a": {"": "dict", "of": [[1, {"": "set", "of": ["x", "y"]}]]}, "b": [1, 2]}'
    """
    try:
        return json.dumps(_plain(value, (), _Walk(trained)), sort_keys=True)
    except RecursionError:
        raise InputError("a setting is nested too deeply to be hashed") from None
    except ValueError as error:  # of a number with thousands of digits
        raise InputError(f"a setting cannot be hashed: {error}") from None


def _plain(value: Any, outer: tuple[int, ...], walk: _Walk) -> Any:
    if isinstance(value, Enum) and not isinstance(value, str | int | float):
        return _tagged("enum", [_name(type(value)), value.name])
    if value is None or isinstance(value, str | int | float):
        return value
    if id(value) in outer:
        return _tagged("again", len(outer) - outer.index(id(value)))
    outer = (*outer, id(value))

    def inner(item: Any) -> Any:
        return _plain(item, outer, walk)

    if isinstance(value, list | tuple | dict) and (more := _beside_items(value)):
        items = list(value.items()) if isinstance(value, dict) else list(value)
        return _tagged("items", [_name(type(value)), inner(items), inner(more)])
    match value:
        case list() | tuple():
            return [inner(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {str.__str__(key): inner(item) for key, item in value.items()}
        case Mapping():
            return _tagged("dict", _sorted([inner(key), inner(item)] for key, item in value.items()))
        case AbstractSet():
            return _tagged("set", _sorted(map(inner, value)))
        case deque():
            return _tagged("deque", [[inner(item) for item in value], value.maxlen])
    return _of_numbers(value, inner, walk)


def _of_numbers(value: Any, inner: Inner, walk: _Walk) -> Any:
    """Tensors, arrays, and single values that JSON does not have."""
    match value:
        case Tensor() if id(value) in walk.trained:
            return _tagged("tensor", [str(value.dtype), list(value.shape)])
        case Tensor():
            return _tagged("tensor", [str(value.dtype), list(value.shape), str(value.layout), _hash_of(value)])
        case np.ndarray() if value.dtype.hasobject:
            return _tagged("array", inner(value.tolist()))
        case np.ndarray() | np.generic():
            array = np.asarray(value)
            content = hashlib.sha256(array.tobytes()).hexdigest()
            return _tagged("array", [array.dtype.str, list(array.shape), content])
        case bytes() | bytearray():
            return _tagged("bytes", value.hex())
        case complex() | range() | slice() | torch.dtype() | torch.device() | date() | time() | timedelta() | Number():
            return _tagged(_name(type(value)), str(value))
    return _of_code(value, inner, walk)


def _of_code(value: Any, inner: Inner, walk: _Walk) -> Any:
    """Functions, classes and what they are made of."""
    match value:
        case functools.partial():
            return _tagged("partial", [inner(value.func), inner(value.args), inner(value.keywords)])
        case type() | types.BuiltinFunctionType():
            return _tagged("named", _name(value))
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            nameless = [value.__code__] if "<" in value.__qualname__ else []
            held = [value.__defaults__, value.__kwdefaults__, cells, *nameless]
            return _tagged("named", [_name(value), *([inner(held)] if any(held) else [])])
        case types.ModuleType():
            return _tagged("named", value.__name__)
        case types.CodeType():
            return _tagged("code", [value.co_code.hex(), inner(value.co_consts), list(value.co_names)])
        case types.MethodType():
            return _tagged("method", [inner(value.__self__), value.__name__])
    return _of_training(value, inner, walk)


def _of_training(value: Any, inner: Inner, walk: _Walk) -> Any:
    """Modules, generators of random numbers and optimizers."""
    match value:
        case LightningModule():
            parts = [[name, _name(type(part))] for name, part in value.named_modules()]
            return _tagged("module", [parts, [[name, list(each.shape)] for name, each in value.named_parameters()]])
        case nn.Module():
            own = {name: item for name, item in attributes(value).items() if name not in _OF_EVERY_MODULE}
            inside = [value.named_parameters(recurse=False), value.named_buffers(recurse=False), value.named_children()]
            return _tagged("module", [_name(type(value)), inner(own), inner([dict(each) for each in inside])])
        case torch.Generator():
            return _tagged("generator", inner(value.get_state()))
        case random.Random():
            return _tagged("generator", inner(value.getstate()))
        case torch.optim.Optimizer():
            groups = [{name: item for name, item in group.items() if name != "params"} for group in value.param_groups]
            return _tagged("optimizer", [_name(type(value)), inner(value.defaults), inner(groups)])
    return _of_object(value, inner, walk)


def _beside_items(value: Any) -> dict[str, Any]:
    """What a list, a tuple or a mapping of one's own holds beside its items."""
    held = attributes(value)
    return {**held, "default_factory": value.default_factory} if isinstance(value, defaultdict) else held


def _of_object(value: Any, inner: Inner, walk: _Walk) -> Any:
    walk.step()
    kind = type(value)
    machinery = {kind.__module__.partition(".")[0], ".".join(kind.__module__.split(".")[:2])} & _MACHINERY
    if isinstance(value, PurePath | Dataset) or (machinery and not dataclasses.is_dataclass(value)):
        return kind.__qualname__  # places of files and data do not count
    held = attributes(value)
    if not held and isinstance(getattr(value, "__name__", None), str):  # a function that is not Python's own
        return _tagged("named", value.__name__)
    return _tagged("object", [_name(kind), inner(held if held else _reduced(value))])


def _reduced(value: Any) -> Any:
    """What a copy of an object without attributes would be made of, such as a compiled pattern."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):  # what cannot be copied counts by its class
        warnings.simplefilter("ignore")
        reduce = dispatch_table.get(type(value))
        return (reduce(value) if reduce else value.__reduce_ex__(4))[1:]
    return None


def attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object; those of its class's slots, and plain values that its class has, too."""
    return {**_of_class(type(value)), **own_attributes(value)}


def _of_class(kind: type) -> dict[str, Any]:
    """The values among the attributes of one's own classes."""
    own = [each for each in reversed(kind.__mro__) if each.__module__.partition(".")[0] not in _OTHERS]
    found = {name: item for each in own for name, item in vars(each).items() if not name.startswith("_")}
    return {name: item for name, item in found.items() if not hasattr(type(item), "__get__")}


def _hash_of(tensor: Tensor) -> str:
    if tensor.is_meta:
        return ""
    return hashlib.sha256(bytes_of(on_cpu(tensor.detach().to_dense()))).hexdigest()


def _tagged(kind: str, of: Any) -> Any:
    return {"": kind, "of": of}  # a key that no setting has


def _sorted(items: Any) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _name(value: Any) -> str:
    return f"{_FIRST_ADDRESSES.get(value.__module__, value.__module__)}.{value.__qualname__}"
