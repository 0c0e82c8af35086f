"""A safetensors file with a text beside the tensors and a SHA-256 over all of it. Nothing in it is ever unpickled.

Any program that reads safetensors reads it: https://github.com/huggingface/safetensors#format. Ours is stricter. Its
header begins with ``{"__metadata__":{"sha256":"<64 digits>","text":...}``. That digest is the SHA-256 of the header
with zeros in place of the digits, followed by the SHA-256 of each tensor's bytes in the order of the file. So no bit
can change unnoticed, and the tensors are hashed side by side.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lit_dist.utils.atomic_write import open_file, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.threads import in_threads

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn, "I16": torch.int16, "U16": torch.uint16, "F16": torch.float16,
    "BF16": torch.bfloat16, "I32": torch.int32, "U32": torch.uint32, "F32": torch.float32, "F64": torch.float64,
    "I64": torch.int64, "U64": torch.uint64, "C64": torch.complex64,
}  # fmt: skip
"""The dtypes of safetensors that torch has."""

MAX_HEADER = 64 * 2**20
MAX_ITEMS = 1_000_000
"""Far more than any network needs; without a bound, a small header could be made to fill the memory."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_START = b'{"__metadata__":{"sha256":"'
_ZEROS = b"0" * 64
_PIECE = 2**20


def write(path: Path, tensors: Mapping[str, Tensor], text: str) -> None:
    """Write tensors, on any device, and a text; ``path`` then holds all of it, or what it held before.

    Raises:
        InputError: If safetensors has no such dtype, or the file cannot be written.
    """
    with replacing(path) as file:
        write_to(file, tensors, text)


def write_to(file: BinaryIO, tensors: Mapping[str, Tensor], text: str) -> str:
    """Write tensors and a text into an open, empty file; see ``write``.

    Returns:
        The SHA-256 in the file.

    Raises:
        InputError: If safetensors has no such dtype.
        OSError: If the file cannot be written.
    """
    contents = [_bytes(name, tensor) for name, tensor in tensors.items()]
    header = _header(tensors, contents, text)
    starts = accumulate((content.nbytes for content in contents), initial=8 + len(header))
    size = sum(content.nbytes for content in contents)
    hashes = in_threads(partial(_store, file.fileno()), zip(starts, contents, strict=False), size)
    digest = _digest(header, hashes)
    file.write(len(header).to_bytes(8, "little"))
    file.write(header.replace(_START + _ZEROS, _START + digest, 1))
    return digest.decode()


def _bytes(name: str, tensor: Tensor) -> memoryview:
    if name == "__metadata__":
        raise InputError("no tensor of a safetensors file can have the name '__metadata__'")
    if tensor.layout != torch.strided or tensor.dtype not in _NAMES or tensor.is_meta:
        raise InputError(f"safetensors cannot hold the tensor {name!r} ({tensor.dtype}, {tensor.layout})")
    return bytes_of(on_cpu(tensor))


def on_cpu(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, contiguous, such that ``bytes_of`` takes it; copied only if it must be."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.numel() == 1:  # torch calls it contiguous whatever its strides are
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor.contiguous()


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, not copied."""
    content: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return content


def _header(tensors: Mapping[str, Tensor], contents: list[memoryview], text: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"sha256": _ZEROS.decode(), "text": text}}
    end = 0
    for (name, tensor), content in zip(tensors.items(), contents, strict=True):
        start, end = end, end + content.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    if len(encoded) > MAX_HEADER or _parts(encoded) > MAX_ITEMS:
        raise InputError(f"the file's names and settings come to {len(encoded):,} bytes, which no reader would take")
    return encoded + b" " * (-len(encoded) % 8)  # safetensors aligns the data


def _parts(header: bytes) -> int:
    return sum(map(header.count, (b",", b"[", b"{")))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no name may stand twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError
    return result


def _store(descriptor: int, part: tuple[int, memoryview]) -> Any:
    start, content = part
    return _hashed(content, lambda piece, done: os.pwrite(descriptor, piece, start + done))


def _hashed(content: memoryview, move: Callable[[memoryview, int], int]) -> Any:
    """Write or read a content piece by piece, so that each is hashed while the processor's cache has it."""
    sha256 = hashlib.sha256()
    done = 0
    while done < content.nbytes and (count := move(content[done : done + _PIECE], done)):  # 0: the file shrank
        sha256.update(content[done : done + count])
        done += count
    return sha256


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


def read(path: Path, with_tensors: bool = True) -> tuple[dict[str, Tensor], str]:
    """Read what ``write`` wrote. Every byte is checked before anything of it is returned.

    Args:
        path: The file.
        with_tensors: Whether to keep the tensors; otherwise each comes without values, on the device ``meta``.

    Returns:
        The tensors by name, on the CPU, and the text.

    Raises:
        InputError: If the file is missing, is a pickle or of another kind, or is not whole.
    """
    tensors, text, _ = read_hashed(path, with_tensors)
    return tensors, text


def read_hashed(path: Path, with_tensors: bool = True) -> tuple[dict[str, Tensor], str, str]:
    """As ``read``, with the SHA-256 in the file."""
    try:
        with open_file(path) as file:
            return _read(file, path, with_tensors)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def header_of(path: Path) -> str:
    """The header of a file, of which nothing was checked.

    Raises:
        InputError: If it is of another kind.
        OSError: If it cannot be read.
    """
    with open_file(path) as file:
        _, header = _read_header(path, file, os.fstat(file.fileno()).st_size)
    return header.decode(errors="replace")


def is_ours(path: Path) -> bool:
    """Whether a file begins as those that ``write`` writes."""
    with open_file(path) as file:
        return file.read(8 + len(_START))[8:] == _START


def read_from(file: BinaryIO, path: Path, with_tensors: bool = True) -> tuple[dict[str, Tensor], str]:
    """Read an open file from where it stands, its beginning; see ``read``. Messages call it ``path``.

    Raises:
        InputError: If it is a pickle or of another kind, or is not whole.
    """
    tensors, text, _ = _read(file, path, with_tensors)
    return tensors, text


def _read(file: BinaryIO, path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], str, str]:
    size = os.fstat(file.fileno()).st_size
    length, header = _read_header(path, file, size)
    metadata, places = _parse(path, header, size - 8 - length)
    loaded = in_threads(partial(_load, file.fileno(), 8 + length, with_tensors), places, size)
    digest = header[len(_START) : len(_START) + 64]
    blank = header.replace(_START + digest, _START + _ZEROS, 1)
    if _digest(blank, (sha for _, sha in loaded)) != digest:
        raise InputError(f"{path} is damaged: its contents do not match the SHA-256 in it; take an older one")
    return {place.name: tensor for place, (tensor, _) in zip(places, loaded, strict=True)}, metadata, digest.decode()


def _read_header(path: Path, file: BinaryIO, size: int) -> tuple[int, bytes]:
    start = file.read(8 + len(_START))
    if start[8:] != _START:
        if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
            raise InputError(
                f"{path} is a pickle, and reading one can run any program that is hidden in it; lit_dist reads and"
                " writes checkpoints as safetensors (SafetensorsCheckpointIO)"
            )
        raise InputError(f"{path} is not a file that lit_dist wrote, or was cut short")
    length = int.from_bytes(start[:8], "little")
    if length > min(size - 8, MAX_HEADER):
        raise InputError(f"{path} is damaged: it says that its header has {length:,} bytes, and the file has {size:,}")
    header = os.pread(file.fileno(), length, 8)
    if _parts(header) > MAX_ITEMS:
        raise InputError(f"{path} was not read: its header has more parts than any network")
    return length, header


def _parse(path: Path, header: bytes, data: int) -> tuple[str, list[_Place]]:
    try:
        entries = json.loads(header, object_pairs_hook=_once)
        text = entries.pop("__metadata__")["text"]
        places = [_place(name, entry) for name, entry in entries.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path} is damaged: its header is not that of a safetensors file") from None
    end = 0
    for place in places:
        if place.start != end or place.size != place.dtype.itemsize * math.prod(place.shape):
            raise InputError(f"{path} is damaged: the tensor {place.name!r} has another size than its shape says")
        end += place.size
    if not isinstance(text, str) or end != data:
        raise InputError(f"{path} is damaged: it has {data:,} bytes of tensors, and its header speaks of {end:,}")
    return text, places


def _place(name: str, entry: dict[str, Any]) -> _Place:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    numbers = (*shape, start, end)
    if set(entry) != {"dtype", "shape", "data_offsets"} or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError
    if math.prod(n or 1 for n in shape) >= 2**60:  # more than torch counts, even where a zero makes it nothing
        raise ValueError
    return _Place(name, DTYPES[entry["dtype"]], shape, start, end - start)


def _load(descriptor: int, data: int, keep: bool, place: _Place) -> tuple[Tensor, Any]:
    tensor = torch.empty(place.shape, dtype=place.dtype)
    start = data + place.start
    sha256 = _hashed(bytes_of(tensor), lambda piece, done: os.preadv(descriptor, [piece], start + done))
    return tensor if keep else tensor.to("meta"), sha256


def _digest(header: bytes, hashes: Iterable[Any]) -> bytes:
    whole = hashlib.sha256(header)
    for tensor in hashes:
        whole.update(tensor.digest())
    return whole.hexdigest().encode()
