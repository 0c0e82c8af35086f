"""What crosses a transfer, and its fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch


def fingerprint(state: Mapping[str, Any]) -> tuple[str, int]:
    """Hash weights and buffers, so that two parties can tell whether they hold the same ones.

    The hash covers each tensor's name, dtype, shape and bytes, in the order of the names. It does not depend on the
    device.

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
    digest = hashlib.sha256()
    size = 0
    for name in sorted(state):
        tensor = state[name]
        if not isinstance(tensor, torch.Tensor):
            continue
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(data.data)
        size += data.nbytes
    return digest.hexdigest(), size
