"""A checkpoint's nested values as JSON, with the tensors apart: what pickle does, without anything that could run.

JSON holds what it can; anything else becomes an object with the key ``"!"``, which names its kind.
"""

import base64
import json
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import FileBacked

Find = Callable[[str], FileBacked]

_TAG = "!"


@dataclass(frozen=True, slots=True)
class _Parts:
    tensors: dict[str, Tensor]
    folder: Path | None


def encode(tree: Mapping[str, Any], folder: Path | None = None) -> tuple[str, dict[str, Tensor]]:
    """Turn a checkpoint into a text and tensors.

    Args:
        tree: Dictionaries, lists, tuples, sets, numbers, strings, bytes, paths, tensors, arrays, and the like.
        folder: Of what a file of this folder has, the text has that file's name only.

    Returns:
        The JSON, and the tensors under the names of their places, such as ``"state_dict/conv1.weight"``.

    Raises:
        InputError: If there is a value of another kind, such as a function or a module.
    """
    parts = _Parts({}, folder)
    try:
        return json.dumps(_encode(tree, (), parts), separators=(",", ":"), allow_nan=False), parts.tensors
    except RecursionError:
        raise InputError("a value of the checkpoint holds itself, or is nested too deeply") from None


def decode(text: str, tensors: Mapping[str, Tensor], find: Find | None = None) -> dict[str, Any]:
    """Turn the text and the tensors that ``encode`` gave back into the checkpoint.

    Args:
        text: The text.
        tensors: The tensors.
        find: Gives the part of which a file has the name; None where there can be none.

    Raises:
        ValueError: If the text is not such JSON, names a tensor or a file that is not there, or leaves a tensor out.
    """
    used: set[str] = set()
    try:
        tree = _decode(json.loads(text, parse_constant=_refuse), _Sources(tensors, used, find))
    except (TypeError, AttributeError, LookupError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if unknown := sorted(set(tensors) - used):
        raise ValueError(f"nothing refers to the tensor {unknown[0]!r}")
    if not isinstance(tree, dict):
        raise ValueError("it is not a dictionary")
    return tree


def _encode(value: Any, place: tuple[str, ...], parts: _Parts) -> Any:
    def tagged(kind: str, of: Any) -> dict[str, Any]:
        return {_TAG: kind, "of": of}

    def items(values: Any) -> list[Any]:
        return [_encode(item, (*place, str(number)), parts) for number, item in enumerate(values)]

    match value:
        case Tensor():
            return tagged("tensor", _add(value, place, parts.tensors))
        case FileBacked():
            path = value.path
            beside = path is not None and path.parent == parts.folder
            return tagged("file", path.name) if path and beside else _encode(value.get(), place, parts)
        case np.str_() | np.bytes_():
            return _encode(value.item(), place, parts)
        case np.ndarray() | np.generic():
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return tagged(kind, _add(_from_numpy(value, place), place, parts.tensors))
        case None | bool() | str():
            return value
        case int() if abs(value) < 10**4000:  # Python does not read longer numbers back
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else tagged("float", repr(float(value)))
        case Mapping():
            return _encode_mapping(value, place, parts)
        case torch.Size():
            return tagged("size", list(value))
        case list():
            return items(value)
        case tuple():
            return tagged("tuple", items(value))
        case set() | frozenset():
            return tagged("set" if isinstance(value, set) else "frozenset", items(sorted(value, key=repr)))
        case deque():
            return tagged("deque", [items(value), value.maxlen])
        case bytes():
            return tagged("bytes", base64.b64encode(value).decode())
        case Path():
            return tagged("path", str(value))
        case timedelta():
            return tagged("timedelta", [value.days, value.seconds, value.microseconds])
        case torch.dtype() | torch.device():
            return tagged(type(value).__name__, str(value).removeprefix("torch."))
    raise InputError(
        f"a checkpoint holds numbers, text and tensors, but {'/'.join(place)} is a {type(value).__name__}; leave it"
        " out, for example by save_hyperparameters(ignore=[...]), or let its state_dict give plain values"
    )


def _from_numpy(value: np.ndarray[Any, Any] | np.generic, place: tuple[str, ...]) -> Tensor:
    array = np.asarray(value)
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise InputError(
            f"a checkpoint holds numbers and text, but {'/'.join(place)} is an array of {array.dtype}"
        ) from None


def _encode_mapping(value: Mapping[Any, Any], place: tuple[str, ...], parts: _Parts) -> Any:
    kind = next((kind for kind in (OrderedDict, Counter) if isinstance(value, kind)), dict).__name__
    if kind == "dict" and _TAG not in value and all(type(key) is str for key in value):
        return {key: _encode(item, (*place, key), parts) for key, item in value.items()}
    pairs = [[_encode(key, place, parts), _encode(item, (*place, str(key)), parts)] for key, item in value.items()]
    encoded = {_TAG: kind, "of": pairs}
    if versions := getattr(value, "_metadata", None):  # a module's state has the versions of its parts there
        encoded["versions"] = _encode(versions, place, parts)
    return encoded


def _add(tensor: Tensor, place: tuple[str, ...], tensors: dict[str, Tensor]) -> str | list[str]:
    """Set a tensor apart under a name; in a list if it is one of pairs, since safetensors has no wide complex ones."""
    name = "/".join(place)
    while name in tensors or name == "__metadata__":
        name += "'"
    pairs = tensor.dtype == torch.complex128
    tensors[name] = torch.view_as_real(tensor.resolve_conj()) if pairs else tensor
    return [name] if pairs else name


@dataclass(frozen=True, slots=True)
class _Sources:
    tensors: Mapping[str, Tensor]
    used: set[str]
    find: Find | None


def _decode(value: Any, sources: _Sources) -> Any:
    if isinstance(value, list):
        return [_decode(item, sources) for item in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {key: _decode(item, sources) for key, item in value.items()}
    kind, of = value[_TAG], value["of"]
    if kind == "file" and sources.find is not None:
        return sources.find(of)
    if kind in ("tensor", "array", "scalar"):
        name, pairs = (of[0], True) if isinstance(of, list) else (of, False)
        sources.used.add(name)
        tensor = torch.view_as_complex(sources.tensors[name]) if pairs else sources.tensors[name]
        if tensor.is_meta:  # nothing but its shape was asked for
            return tensor
        return tensor if kind == "tensor" else tensor.numpy() if kind == "array" else tensor.numpy()[()]
    result = _KINDS[kind](_decode(of, sources))
    if "versions" in value:
        result._metadata = _decode(value["versions"], sources)
    return result


def _dtype(name: str) -> torch.dtype:
    dtype = vars(torch).get(name)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name} is not a dtype")
    return dtype


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_KINDS: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": lambda pairs: Counter(dict(pairs)),
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": lambda of: deque(of[0], of[1]),
    "float": lambda of: {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[of],
    "size": torch.Size,
    "bytes": lambda of: base64.b64decode(of, validate=True),
    "path": Path,
    "timedelta": lambda of: timedelta(*of),
    "dtype": _dtype,
    "device": torch.device,
}
