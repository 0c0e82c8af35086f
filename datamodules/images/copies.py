"""Copies: images that have the same content under two names, which must not stand in two splits or at two sites."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from lit_dist.datamodules.images.image_index import ImageFile
from lit_dist.datamodules.splits import CONTENT
from lit_dist.utils.errors import InputError
from lit_dist.utils.threads import in_threads

_Read = TypeVar("_Read")
OnDuplicate = Literal["group", "drop", "raise", "keep"]

_BLOCK = 4096  # bytes in the middle of two files that are compared, before all of them are
_SHOWN = 3


def content_numbers(
    files: Sequence[ImageFile], slots: NDArray[np.int64], stored: Callable[[], Mapping[int, bytes]]
) -> NDArray[np.int64]:
    """Number contents, so that files of the same content have the same number.

    Files that a cache knows are not read; of others only those that have the size and the middle of another.

    Args:
        files: The files, or parts of films.
        slots: The cache's slot of each file, -1 where it has none; it has one slot for each content.
        stored: Gives the SHA-256 of the content of each slot.

    Returns:
        The numbers, (files,).
    """
    if (slots >= 0).all():
        return np.unique(slots, return_inverse=True)[1].astype(np.int64)
    numbers = np.arange(len(files))
    alike = _repeated(list(map(_if_readable(_size), files)), numbers)
    alike = _repeated(in_threads(_if_readable(_middle), [files[place] for place in alike]), alike)
    known = stored() if (slots[alike] >= 0).any() else {}
    unknown = [place for place in alike.tolist() if int(slots[place]) not in known]
    hashes = dict(zip(unknown, in_threads(_if_readable(_hash), [files[place] for place in unknown]), strict=True))
    first: dict[bytes, int] = {}
    for place in alike.tolist():
        content = hashes[place] if place in hashes else known[int(slots[place])]
        if content is not None:
            numbers[place] = first.setdefault(content, place)
    return numbers


def _repeated(keys: Sequence[Hashable], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places whose key, which is not None, others have too."""
    counts = Counter(keys)
    return places[[key is not None and counts[key] > 1 for key in keys]] if len(keys) else places


def _if_readable(read: Callable[[ImageFile], _Read]) -> Callable[[ImageFile], _Read | None]:
    def attempt(file: ImageFile) -> _Read | None:
        try:
            return read(file)
        except OSError:
            return None

    return attempt


def _size(file: ImageFile) -> int | None:
    return file.stat().st_size or None


def _middle(file: ImageFile) -> tuple[int, bytes]:
    """A file's size, and what is in its middle."""
    with open(file.path, "rb", buffering=0) as opened:
        size = os.fstat(opened.fileno()).st_size
        return size, os.pread(opened.fileno(), _BLOCK, max(0, (size - _BLOCK) // 2))


def _hash(file: ImageFile) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def settle(table: pd.DataFrame, how: OnDuplicate) -> pd.DataFrame:
    """Say which images are copies, and do with them what is asked for.

    Args:
        table: One row an image, with the columns ``image``, ``label`` and ``CONTENT``, and ``held_out`` if there is a
            published test set.
        how: ``"group"`` keeps them, as images of one patient, but leaves a copy of an image of a published test set out
            of training. ``"drop"`` keeps the first of them, or of a published test set that one; where their labels
            differ, none. ``"keep"`` does nothing.

    Raises:
        InputError: If there are some and ``how`` is ``"raise"``.
    """
    copies = table[table[CONTENT].duplicated(keep=False)]
    if copies.empty:
        return table.drop(columns=CONTENT)
    extra = len(copies) - copies[CONTENT].nunique()
    text = f"{extra} of {len(table)} images are copies of others, byte for byte, such as {_names(copies)[0]}"
    labels = copies.groupby(CONTENT)["label"].transform("nunique") > 1
    differ = copies[labels]
    conflict = f"{differ[CONTENT].nunique()} images have copies of another label: {'; '.join(_names(differ)[:_SHOWN])}"
    if how == "raise":
        more = f"; {conflict}" if len(differ) else ""
        raise InputError(f"{text}{more}; remove them, or choose on_duplicate=group or drop")
    if len(differ):
        rank_zero_warn(f"{conflict}; one of the labels is wrong")
    if how == "keep":
        rank_zero_warn(f"{text}; they stay where they are, in two splits or at two sites too (on_duplicate=keep)")
        return table.drop(columns=CONTENT)
    tested = table["held_out"] if "held_out" in table and "split" not in table else pd.Series(False, table.index)
    if how == "drop":
        rank_zero_info(f"{text}; the first of each stays (on_duplicate=drop)")
        first = table.assign(late=~tested).sort_values("late", kind="stable")
        keep = ~first[CONTENT].duplicated().reindex(table.index)
        return table[keep & ~table.index.isin(differ.index)].drop(columns=CONTENT).reset_index(drop=True)
    rank_zero_info(f"{text}; copies count as one patient, so that none is in two splits or at two sites")
    trained = table[CONTENT].isin(table.loc[tested, CONTENT]) & ~tested
    if trained.any():
        rank_zero_warn(f"{int(trained.sum())} images are copies of images of the published test set, and left out")
    return table[~trained].reset_index(drop=True)


def _names(copies: pd.DataFrame) -> list[str]:
    """The names of the images of each content, and their labels where these differ."""
    shown = []
    for _, same in islice(copies.groupby(CONTENT, sort=False), _SHOWN):
        label = same["class"] if "class" in same else same["label"]
        names = [f"{n} ({v})" if label.nunique() > 1 else n for n, v in zip(same["image"], label, strict=True)]
        shown.append(" and ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""))
    return shown
