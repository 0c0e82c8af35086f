"""Any values as JSON that is the same in every process: what a hash of settings is made of."""

import dataclasses
import functools
import hashlib
import json
import sys
import types
from argparse import Namespace
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_dist.errors import InputError
from lit_dist.tensor_file import bytes_of, on_cpu

_DEEPEST = 3  # objects within objects, of which the innermost count by their class alone
_BAGS = (types.SimpleNamespace, Namespace)
_OPAQUE = {*sys.stdlib_module_names, "lightning", "numpy", "pytorch_lightning", "torch"}
"""Packages whose objects have attributes that say nothing about settings, such as a trainer or a lock."""


def plain_json(value: Any) -> str:
    """A value as JSON.

    What JSON has stands for itself; keys that are no text, and all else, are told apart by their type. A tensor or an
    array counts by its bytes, a function by its name, a module by its structure, and an object by its class and
    its attributes: never by an address.

    Args:
        value: Anything.

    Raises:
        InputError: If it is nested too deeply.

    Example:
        >>> plain_json({"b": (1, 2), "a": {1: {"y", "x"}}})
        '{"a": {"": "dict", "of": [[1, {"": "set", "of": ["x", "y"]}]]}, "b": [1, 2]}'
    """
    try:
        return json.dumps(_plain(value, (), 0), sort_keys=True)
    except RecursionError:
        raise InputError("a setting is nested too deeply to be hashed") from None
    except ValueError as error:  # of a number with thousands of digits
        raise InputError(f"a setting cannot be hashed: {error}") from None


def _plain(value: Any, outer: tuple[int, ...], depth: int) -> Any:
    if isinstance(value, Enum) and not isinstance(value, str | int | float):
        return _tagged("enum", [_name(type(value)), value.name])
    if value is None or isinstance(value, str | int | float):
        return value
    if id(value) in outer:
        return _tagged("again", len(outer) - outer.index(id(value)))
    outer = (*outer, id(value))

    def inner(item: Any, deeper: int = 0) -> Any:
        return _plain(item, outer, depth + deeper)

    match value:
        case list() | tuple():
            return [inner(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {str.__str__(key): inner(item) for key, item in value.items()}
        case Mapping():
            return _tagged("dict", _sorted([inner(key), inner(item)] for key, item in value.items()))
        case AbstractSet():
            return _tagged("set", _sorted(map(inner, value)))
        case Tensor():
            return _tagged("tensor", [str(value.dtype), list(value.shape), str(value.layout), _hash_of(value)])
        case np.ndarray() if value.dtype.hasobject:
            return _tagged("array", inner(value.tolist()))
        case np.ndarray() | np.generic():
            array = np.asarray(value)
            content = hashlib.sha256(array.tobytes()).hexdigest()
            return _tagged("array", [array.dtype.str, list(array.shape), content])
        case deque():
            return _tagged("deque", [[inner(item) for item in value], value.maxlen])
        case bytes() | bytearray():
            return _tagged("bytes", value.hex())
        case complex() | range() | slice() | torch.dtype() | torch.device() | date() | time() | timedelta() | Number():
            return _tagged(_name(type(value)), str(value))
        case functools.partial():
            return _tagged("partial", [inner(value.func), inner(value.args), inner(value.keywords)])
        case type() | types.BuiltinFunctionType():
            return _tagged("named", _name(value))
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            held = [value.__defaults__, value.__kwdefaults__, cells, *_code(value)]
            return _tagged("named", [_name(value), *([inner(held, 1)] if any(held) and depth < _DEEPEST else [])])
        case types.MethodType():
            return _tagged("method", [inner(value.__self__), value.__name__])
        case nn.Module():
            parts = [[name, _name(type(part))] for name, part in value.named_modules()]
            return _tagged("module", [parts, [[name, list(each.shape)] for name, each in value.named_parameters()]])
    return _of_object(value, inner, depth)


def _of_object(value: Any, inner: Any, depth: int) -> Any:
    kind = type(value)
    opaque = kind.__module__.partition(".")[0] in _OPAQUE and not isinstance(value, _BAGS)
    if opaque and isinstance(getattr(value, "__name__", None), str):  # a function that is none of Python's own
        return _tagged("named", value.__name__)
    if isinstance(value, PurePath) or (opaque and not dataclasses.is_dataclass(value)) or depth >= _DEEPEST:
        return kind.__qualname__  # of a path, too: places of files do not count
    return _tagged("object", [_name(kind), {name: inner(item, 1) for name, item in attributes(value).items()}])


def attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object, those of its class's slots, too."""
    slots = (name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name))
    return {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return tuple(name for name in ([slots] if isinstance(slots, str) else slots) if not name.startswith("__"))


def _code(function: types.FunctionType) -> list[Any]:
    """What a function does that has no name to be found by."""
    if "<" not in function.__qualname__:
        return []
    code = function.__code__
    plain = [each for each in code.co_consts if isinstance(each, str | int | float)]
    return [code.co_code.hex(), plain, list(code.co_names)]


def _hash_of(tensor: Tensor) -> str:
    if tensor.is_meta:
        return ""
    return hashlib.sha256(bytes_of(on_cpu(tensor.detach().to_dense()))).hexdigest()


def _tagged(kind: str, of: Any) -> Any:
    return {"": kind, "of": of}  # a key that no setting has


def _sorted(items: Any) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
