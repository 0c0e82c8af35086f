"""Finds NaN and infinity among tensors."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_dist.utils.threads import in_threads


def not_finite(state: Mapping[str, Any]) -> str | None:
    """The name of the first tensor with a NaN or an infinity in it; None if there is none.

    Example:
        >>> not_finite({"weight": torch.tensor([1.0, float("nan")])})
        'weight'
    """
    names = [name for name, value in state.items() if isinstance(value, Tensor) and _has_fractions(value)]
    size = sum(state[name].nbytes for name in names)
    for name, finite in zip(names, in_threads(lambda name: _finite(state[name]), names, size), strict=True):
        if not finite:
            return name
    return None


def _has_fractions(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_meta
    return dense and (tensor.is_floating_point() or tensor.is_complex())


def _finite(tensor: Tensor) -> bool:
    # The extremes: NaN or infinite if any value is; one pass, and nothing as large is allocated.
    if not tensor.numel():
        return True
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.itemsize < 2:
        tensor = tensor.to(torch.float16)  # torch finds no extremes in eight bits
    least, largest = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(least) & torch.isfinite(largest))
