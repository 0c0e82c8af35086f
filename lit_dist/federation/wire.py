"""What of a checkpoint crosses the wire, what stays, and how it is packed: safetensors and JSON, nothing pickled."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from lit_dist.callbacks import WeightTransfer
from lit_dist.callbacks.baton_writer import baton_of
from lit_dist.checkpoints import state_tree, tensor_file
from lit_dist.provenance.visit_account import transfer_state
from lit_dist.utils.atomic_write import not_written
from lit_dist.utils.errors import InputError

SCALE = MixedPrecision.__qualname__
"""Where Lightning has the scale of the gradients with ``16-mixed``: a site with a GPU has one, the server has none."""

Tree = dict[str, Any]
Parcel = list[bytes]
"""Packed values, in pieces: an engine that copies one copies little."""

_PIECE = 2**26  # of 32 MB and more, malloc gives the memory back to the system at once


def split(checkpoint: Mapping[str, Any], trainer: Trainer, transfer: WeightTransfer) -> tuple[Tree, Tree]:
    """Divide a checkpoint into the baton and what stays.

    The transfer's account travels without its tensors.

    Args:
        checkpoint: The whole of it.
        trainer: The trainer that it comes from.
        transfer: The trainer's transfer callback.

    Returns:
        The baton; and the optimizer's state and the tensors of the transfer callback, as checkpoints have them.
    """
    baton = baton_of(checkpoint, trainer, transfer.state_key, transfer.optimizer_state == "carry")
    baton["callbacks"] = _without_tensors(baton["callbacks"])
    states = [state["state"] for state in checkpoint["optimizer_states"]]
    return baton, {"account": transfer_state(checkpoint, transfer.state_key), "optimizer_states": states}


def join(baton: Mapping[str, Any], own: Mapping[str, Any], transfer: WeightTransfer) -> Tree:
    """Put a baton that came back into the checkpoint that it was taken from.

    Args:
        baton: The baton.
        own: The checkpoint.
        transfer: The transfer callback.
    """
    key = transfer.state_key
    account = with_tensors(transfer_state(baton, key), transfer_state(own, key))
    return {**own, **baton, "callbacks": {**own["callbacks"], key: account}}


def _without_tensors(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return None
    if isinstance(tree, dict):
        return {name: _without_tensors(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_without_tensors(value) for value in tree)
    return tree


def with_tensors(tree: Any, own: Any) -> Any:
    """Fill the places of the tensors that stayed.

    Example:
        >>> import torch
        >>> with_tensors({"best": None, "waited": 2}, {"best": torch.ones(1), "waited": 1})
        {'best': tensor([1.]), 'waited': 2}
    """
    if tree is None and isinstance(own, Tensor):
        return own
    if isinstance(tree, dict) and isinstance(own, dict):
        return {name: with_tensors(value, own.get(name)) for name, value in tree.items()}
    if isinstance(tree, list | tuple) and isinstance(own, list | tuple) and len(tree) == len(own):
        return type(tree)(with_tensors(*pair) for pair in zip(tree, own, strict=True))
    return tree


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
        raise not_written(folder / "parcel", error) from None


def pack(tree: Mapping[str, Any]) -> Parcel:
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


def size(parcel: Sequence[bytes]) -> int:
    """The bytes of a parcel."""
    return sum(map(len, parcel))


def unpack(parcel: Sequence[bytes]) -> Tree:
    """Turn what ``pack`` gave back; every byte is checked, and nothing is unpickled.

    Raises:
        InputError: If it is anything else.
    """
    with _scratch(size(parcel)) as file:
        file.writelines(parcel)
        file.seek(0)
        tensors, text = tensor_file.read_from(file, Path("it"))
    try:
        return state_tree.decode(text, tensors)
    except ValueError as error:
        raise InputError(str(error)) from None
