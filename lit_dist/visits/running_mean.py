"""RunningMean: a weighted mean of nested state, of which only the sum so far is kept."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lit_dist.utils.errors import InputError


class RunningMean:
    """Adds ``weight * value`` in double precision, one state after another, and divides by the sum of the weights.

    What is no floating-point number cannot be averaged. Of a module's weights that is a counter or a mask: then the
    last one counts, whatever its weight. Of other state it must be the same in all.

    Args:
        what: What is averaged, for messages; None lets the last one count.
        total: The sum of the weights so far, where a mean is resumed.
        sums: The sums so far.

    Example:
        >>> mean = RunningMean("a state")
        >>> mean.add({"loss": 1.0}, 3)
        >>> mean.add({"loss": 5.0}, 1)
        >>> mean.value({"loss": 0.0})
        {'loss': 2.0}
    """

    def __init__(self, what: str | None = None, total: float = 0, sums: Any = None) -> None:
        self.what = what
        self.total = total
        self.sums = sums

    def add(self, tree: Any, weight: float) -> None:
        """Add a state of the same form.

        Args:
            tree: Tensors, numbers and text in dictionaries.
            weight: Its weight, above 0.

        Raises:
            InputError: If it differs from the others in what cannot be averaged, or in its form.
        """
        self.sums = self._added(self.sums, tree, weight, self.what or "", first=not self.total)
        self.total += weight

    def value(self, like: Any) -> Any:
        """The mean, in the dtypes of a state of the same form."""
        return _zipped(self._mean, like, self.sums)

    def _added(self, sums: Any, value: Any, weight: float, place: str, first: bool) -> Any:
        if isinstance(value, Mapping):
            if not first and sums.keys() != value.keys():
                raise InputError(f"{place} has other names than that of the visit before, so no mean can be formed")
            return {
                name: self._added(
                    None if first else sums[name], each, weight, f"{place}/{name.partition('{')[0]}", first
                )
                for name, each in value.items()
            }
        if isinstance(value, Tensor) and not first and getattr(sums, "shape", None) != value.shape:
            raise InputError(f"{place} has another shape than that of the visit before, so no mean can be formed")
        if isinstance(value, Tensor) and _wide(value) is not None:
            term = weight * value.detach().to(*_wide(value))  # type: ignore[misc]
            return term if first else sums + term  # not in place: a checkpoint in memory may hold the sum
        if isinstance(value, float):
            return weight * value + (0.0 if first else sums)
        if self.what is not None and not first and not _equal(sums, value):
            raise InputError(
                f"{place} differs between the visits that are merged, and has no mean, since it is no floating-point"
                " number; let it stay at its site, or keep it the same in all visits of a round"
            )
        return value.detach().clone() if isinstance(value, Tensor) else value

    def _mean(self, like: Any, total: Any) -> Any:
        if isinstance(like, Tensor):
            return (total / self.total if _wide(like) else total).to(like)
        return total / self.total if isinstance(like, float) else total


def _wide(value: Tensor) -> tuple[torch.device, torch.dtype] | None:
    """Where and in which dtype a tensor is summed up; None if it has no mean."""
    if not value.is_floating_point() and not value.is_complex():
        return None
    device = torch.device("cpu") if value.device.type == "mps" else value.device  # which has no double precision
    return device, torch.complex128 if value.is_complex() else torch.float64


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _zipped(of: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    if isinstance(one, Mapping):
        return {name: _zipped(of, each, other[name]) for name, each in one.items()}
    return of(one, other)
