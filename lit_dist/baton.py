"""What crosses a transfer, and its fingerprint."""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def fingerprint(state: Mapping[str, Any]) -> tuple[str, int]:
    """Hash weights and buffers, so that two parties can tell whether they hold the same ones.

    It is the SHA-256 of one line a tensor, in the order of the names: a JSON list of the name, the dtype, the shape and
    the SHA-256 of the tensor's bytes. It does not depend on the device.

    Args:
        state: Tensors by name, such as ``module.state_dict()``. What is not a tensor is left out.

    Returns:
        The SHA-256 as 64 hexadecimal digits, and the number of the tensors' bytes.

    Example:
        >>> a = fingerprint({"weight": torch.zeros(2)})
        >>> b = fingerprint({"weight": torch.zeros(1, 2)})
        >>> a[0] == b[0], a[1]
        (False, 8)
    """
    tensors = [(name, state[name]) for name in sorted(state) if isinstance(state[name], torch.Tensor)]
    contents = [tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data for _, tensor in tensors]
    # The threads have ended before this returns: a loader that forks its workers must not meet one at work.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(_sha256, contents))
    lines = [
        json.dumps([name, str(tensor.dtype), list(tensor.shape), digest]) + "\n"
        for (name, tensor), digest in zip(tensors, digests, strict=True)
    ]
    return _sha256("".join(lines).encode()), sum(content.nbytes for content in contents)


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
