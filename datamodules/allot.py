"""Dealing patients out in given shares, evenly over their labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def allot(labels: NDArray[np.int64], shares: Sequence[float], rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal items out to bins, such that each bin gets its share of all items and, nearly, of each label.

    Args:
        labels: The items' labels, (items,).
        shares: The bins' shares; they are scaled to sum to 1.
        rng: Decides which of the items with the same label goes where.

    Returns:
        The bin of each item, (items,).

    Example:
        >>> bins = allot(np.array([0, 0, 0, 0, 1, 1, 1, 1]), [1, 1], np.random.default_rng(0))
        >>> np.bincount(bins[:4]), np.bincount(bins[4:])
        (array([2, 2]), array([2, 2]))
    """
    sizes = _whole(len(labels), shares)
    # Each bin's turns spread evenly over the line; sorting all turns interleaves the bins.
    turns = np.concatenate([(np.arange(size) + rng.random()) / max(size, 1) for size in sizes])
    bins = np.repeat(np.arange(len(sizes)), sizes)[np.argsort(turns, kind="stable")]
    line = np.lexsort((rng.random(len(labels)), labels))  # by label, in random order within a label
    dealt = np.empty(len(labels), dtype=np.int64)
    dealt[line] = bins
    return dealt


def _whole(total: int, shares: Sequence[float]) -> NDArray[np.int64]:
    """Round shares of a total to whole numbers that sum to it, by the largest remainders."""
    exact = np.asarray(shares, dtype=float) / sum(shares) * total
    sizes = np.floor(exact).astype(np.int64)
    for bin_ in np.argsort(sizes - exact, kind="stable")[: total - sizes.sum()]:
        sizes[bin_] += 1
    return sizes
