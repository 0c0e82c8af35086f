"""The baton: what crosses a transfer. Its file, which every checkpoint shares, and the fingerprint of its weights."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_dist.checkpoints import state_tree, staying_files, tensor_file
from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite
from lit_dist.utils.held_signals import held_signals
from lit_dist.utils.threads import in_threads

TRAINED = "current_model_state"
"""Where a checkpoint of a run with an average has the trained weights; its ``state_dict`` has the average."""

APART = "trained_weights_apart"
"""Marks a checkpoint in which they stand there whenever it was written, also in a validation and at the end."""


def fingerprint(state: Mapping[str, Any]) -> tuple[str, int]:
    """Hash weights and buffers, so that two parties can tell whether they hold the same ones.

    It is the SHA-256 of one line a tensor, in the order of the names: a JSON list of the name, the dtype, the shape and
    the SHA-256 of the tensor's bytes. It does not depend on the device.

    Args:
        state: Tensors by name, such as ``module.state_dict()``. What is not a tensor is left out.

    Returns:
        The SHA-256 as 64 hexadecimal digits, and the number of the tensors' bytes.

    Example:
        >>> import torch
        >>> a = fingerprint({"weight": torch.zeros(2)})
        >>> b = fingerprint({"weight": torch.zeros(1, 2)})
        >>> a[0] == b[0], a[1]
        (False, 8)
    """
    lines = tensor_lines(state)
    return sha256_of(lines), sum(state[name].nbytes for name in lines)


def sha256_of(lines: Mapping[str, str]) -> str:
    """The fingerprint that has these lines."""
    return hashlib.sha256("".join(lines.values()).encode()).hexdigest()


def tensor_lines(state: Mapping[str, Any]) -> dict[str, str]:
    """The lines of a fingerprint, by the tensors' names."""
    tensors = {name: state[name] for name in sorted(state) if isinstance(state[name], Tensor)}
    contents = [tensor_file.bytes_of(tensor_file.on_cpu(tensor)) for tensor in tensors.values()]
    size = sum(content.nbytes for content in contents)
    return {
        name: json.dumps([name, str(tensor.dtype), list(tensor.shape), sha256.hexdigest()]) + "\n"
        for (name, tensor), sha256 in zip(tensors.items(), in_threads(hashlib.sha256, contents, size), strict=True)
    }


def write_checkpoint(checkpoint: Mapping[str, Any], path: Path, finite: bool = True) -> None:
    """Write a Lightning checkpoint as safetensors and JSON, such that ``path`` is never half written.

    Of what has a file of its own beside it, it has the file's name. Signals that come meanwhile, such as Ctrl-C, are
    obeyed after it.

    Args:
        checkpoint: What Lightning's ``dump_checkpoint`` gives.
        path: The file.
        finite: Whether to refuse weights that are NaN or infinite, so that they replace nothing good.

    Raises:
        InputError: If the weights are not finite, a value can be held by neither format, or writing fails.
    """
    with held_signals():
        name = not_finite(checkpoint.get("state_dict", {})) if finite else None
        if name is not None:
            raise InputError(
                f"{path} was not written: the tensor {name!r} has values that are NaN or infinite, so training has"
                " diverged"
            )
        text, tensors = state_tree.encode(checkpoint, staying_files.folder_in(path.parent))
        tensor_file.write(path, tensors, text)


def read_checkpoint(path: str | Path, finite: bool = True, with_tensors: bool = True) -> dict[str, Any]:
    """Read a checkpoint; every byte is checked before anything is returned, and nothing is unpickled.

    What stays at a site may lie in a file beside it, which is read and checked when its part is asked for.

    Args:
        path: The file.
        finite: Whether to refuse weights that are NaN or infinite.
        with_tensors: Whether to read the tensors too; otherwise each is one without values, of the same shape.

    Returns:
        The checkpoint: ``["state_dict"]`` has the weights by name, on the CPU.

    Raises:
        InputError: If the file is missing, a pickle, damaged, or its weights are not finite.
    """
    tensors, text = tensor_file.read(Path(path), with_tensors)
    try:
        checkpoint = state_tree.decode(text, tensors, partial(staying_files.find, checkpoint=Path(path)))
    except ValueError as error:
        raise InputError(f"{path} is damaged: its text and its tensors do not belong together ({error})") from None
    if not isinstance(checkpoint.get("state_dict", {}), dict):
        raise InputError(f"{path} is damaged: its weights are not a dictionary")
    name = not_finite(checkpoint.get("state_dict", {})) if finite and with_tensors else None
    if name is not None:
        raise InputError(f"{path} was not read: the tensor {name!r} has values that are NaN or infinite")
    return checkpoint


def check_weights(found: Mapping[str, Any], expected: Mapping[str, Any], path: str | Path) -> None:
    """Check the tensors of a file before they are put into a network.

    Raises:
        InputError: If a name is unknown or missing, or a shape or a dtype differs.
    """
    described = [_describe(state) for state in (found, expected)]
    for problem, names in {
        "has unknown tensors": sorted(described[0].keys() - described[1].keys()),
        "lacks": sorted(described[1].keys() - described[0].keys()),
        "has tensors of another shape or dtype": sorted(
            name for name in described[0].keys() & described[1].keys() if described[0][name] != described[1][name]
        ),
    }.items():
        if names:
            here, there = described[0].get(names[0], "nothing"), described[1].get(names[0], "nothing")
            raise InputError(
                f"{path} does not fit this network: it {problem}: {', '.join(names[:5])} ({names[0]} is {here} in the"
                f" file, {there} in the network); take the model settings of the run that wrote it"
            )


def _describe(state: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{value.dtype} {tuple(value.shape)}" for name, value in state.items() if isinstance(value, Tensor)}
