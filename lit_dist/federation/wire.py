"""How what crosses the wire is packed: safetensors and JSON, nothing pickled."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lit_dist.checkpoints import state_tree, tensor_file
from lit_dist.utils.atomic_write import not_written
from lit_dist.utils.errors import InputError

Tree = dict[str, Any]
Message = list[bytes]
"""Packed values, in pieces: an engine that copies one copies little."""

SMALL = 2**20
"""The greatest number of bytes of a message without weights."""

TEXT = 2**24
"""The greatest number of bytes of what belongs to weights."""

_PIECE = 2**26  # of 32 MB and more, malloc gives the memory back to the system at once


@contextmanager
def _scratch(needed: int) -> Iterator[BinaryIO]:
    """A file without a name, which is gone with the process also if that is killed; in memory where there is room."""
    memory = Path("/dev/shm")
    room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * needed
    folder = memory if room else Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        raise not_written(folder / "message", error) from None


def pack(tree: Mapping[str, Any]) -> Message:
    """Turn nested values and tensors into bytes.

    Example:
        >>> import torch
        >>> unpack(pack({"weights": {"bias": torch.zeros(2)}}))
        {'weights': {'bias': tensor([0., 0.])}}
    """
    text, tensors = state_tree.encode(tree)
    with _scratch(sum(tensor.nbytes for tensor in tensors.values()) + len(text)) as file:
        tensor_file.write_to(file, tensors, text)
        file.seek(0)
        return list(iter(lambda: file.read(_PIECE), b""))


def size(message: Sequence[bytes]) -> int:
    """The bytes of a message."""
    return sum(map(len, message))


def unpack(message: Sequence[bytes]) -> Tree:
    """Turn what ``pack`` gave back; anything else is an ``InputError``, and nothing is unpickled."""
    with _scratch(size(message)) as file:
        file.writelines(message)
        file.seek(0)
        tensors, text = tensor_file.read_from(file, Path("it"))
    try:
        return state_tree.decode(text, tensors)
    except ValueError as error:
        raise InputError(str(error)) from None
