"""How many records a batch has, whatever it is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

_CHANNELS = (1, 3)


def batch_size(batch: Any) -> int:
    """The number of records of a batch.

    Its parts vote. A tensor or an array counts as long as it is. A list is either one of parts or one of records, as
    detectors take images of several sizes; what more of the parts beside it agree with is taken, and of two that fit
    as well, the one that such a list mostly is. Text and numbers that stand alone have no vote.

    Args:
        batch: Tensors, arrays, mappings, sequences, dataclasses and objects of such, as deep as they are.

    Example:
        >>> images, boxes = [torch.zeros(3, 9, 9), torch.zeros(3, 7, 8)], [{"boxes": torch.zeros(n, 4)} for n in (0, 5)]
        >>> batch_size((images, boxes)), batch_size({"image": torch.zeros(4, 1, 9, 9), "label": torch.zeros(4, 1)})
        (2, 4)
    """
    return next(iter(_counts(batch)[0]), 1)


_Counts = tuple[list[int], bool]
"""How many records there may be, the most likely first; and whether all parts that have a vote agree."""


def _counts(part: Any, within: bool = False) -> _Counts:
    known = _length(part)
    if known is not None:
        return known, True
    if isinstance(part, Mapping):
        return _agreed(part.values())
    if isinstance(part, Sequence) and not isinstance(part, str | bytes):
        return _of_list(part, within)
    if hasattr(part, "__dict__") and (is_dataclass(part) or any(_is_array(each) for each in vars(part).values())):
        return _agreed(vars(part).values())
    return [], True


def _length(part: Any) -> list[int] | None:
    """Of what says it by itself."""
    if isinstance(part, PackedSequence):
        return [int(part.batch_sizes[0])]
    if _is_array(part):
        return [part.size(0) if isinstance(part, Tensor) else len(part)] if part.ndim else []
    if isinstance(graphs := getattr(part, "num_graphs", None), int):  # PyTorch Geometric
        return [graphs]
    size = getattr(part, "batch_size", None)  # TensorDict
    return [size[0]] if isinstance(size, torch.Size) and size else None


def _agreed(parts: Iterable[Any]) -> _Counts:
    found = [each for part in parts if (each := _counts(part, within=True))[0]]
    votes = dict.fromkeys((count for counts, _ in found for count in counts), 0)
    for count in votes:
        votes[count] = sum(count in counts for counts, _ in found)
    ordered = sorted(votes, key=lambda count: -votes[count])
    return ordered, all(sure and counts[0] == ordered[0] for counts, sure in found)


def _of_list(parts: Sequence[Any], within: bool) -> _Counts:
    if not parts:
        return [], True
    counts, sure = _agreed(parts)
    if not counts:  # of numbers, text or pictures
        return ([len(parts)], True) if within or len(parts) > 1 else ([], True)
    if all(isinstance(part, Tensor) for part in parts):
        records = _are_images(parts, within) if sure else len({part.ndim for part in parts}) == 1
    elif all(isinstance(part, Mapping) for part in parts):
        alike = len({frozenset(part) for part in parts}) == 1  # parts of a batch, images and labels, have other names
        records = not sure or (alike and counts[0] == 1) or any(_is_record(part) for part in parts)
    else:
        records = all(isinstance(part, list | tuple) and _is_record(part) for part in parts)
        records = records or not any(_counts(part, within=True)[1] for part in parts)  # their parts do not agree
    if records:
        return list(dict.fromkeys([len(parts), *counts])), True
    return list(dict.fromkeys([*counts, len(parts)])), sure


def _are_images(tensors: Sequence[Tensor], within: bool) -> bool:
    """Whether tensors that are equally long are images, (channels, height, width), instead of parts of a batch."""
    alike = {tuple(tensor.shape[1:]) for tensor in tensors}
    images = all(tensor.ndim == 3 and len(tensor) in _CHANNELS and min(tensor.shape[1:]) > 1 for tensor in tensors)
    return images and (within or len(tensors) > 2 or len(alike) > 1)


def _is_record(part: Any) -> bool:
    """Whether something in a list is a record: it has a number or text of its own, or tensors beside what they name."""
    values = list(part.values() if isinstance(part, Mapping) else part)
    alone = any(isinstance(each, int | float | str) or (_is_array(each) and not each.ndim) for each in values)
    mixed = not isinstance(part, Mapping) and {isinstance(each, Mapping) for each in values} == {True, False}
    return alone or mixed


def _is_array(part: Any) -> bool:
    return isinstance(part, Tensor | np.ndarray)
