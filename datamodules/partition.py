"""Simulated institutions: who has which patients."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lit_dist.datamodules.label_table import read_table, row_number
from lit_dist.utils.errors import InputError

Labels = NDArray[np.int64]


class Partition(ABC):
    """Deals patients out to sites. A new partition implements ``assign``."""

    @abstractmethod
    def assign(self, labels: Labels, sites: Sequence[str], rng: np.random.Generator) -> Labels:
        """Give each patient a site.

        Args:
            labels: The patients' labels, (patients,).
            sites: The names of the sites.
            rng: The only source of chance.

        Returns:
            The number of each patient's site, (patients,); -1 leaves the patient out.

        Raises:
            InputError: If the patients do not suffice, or the settings do not fit the sites.
        """


class EqualPartition(Partition):
    """As many patients of each label at every site, as nearly as the numbers allow."""

    def assign(self, labels: Labels, sites: Sequence[str], rng: np.random.Generator) -> Labels:
        """Give each patient a site."""
        return allot(labels, [1.0] * len(sites), rng)


class SizePartition(Partition):
    """Sites of given sizes with the same mixture of labels.

    Args:
        sizes: The sites' sizes, in any unit: only their proportions count.
    """

    def __init__(self, sizes: list[float]) -> None:
        if not sizes or not all(0 < size < math.inf for size in sizes):
            raise InputError(f"sizes={sizes} are not positive numbers")
        self.sizes = sizes

    def assign(self, labels: Labels, sites: Sequence[str], rng: np.random.Generator) -> Labels:
        """Give each patient a site."""
        if len(self.sizes) != len(sites):
            raise InputError(f"there are {len(sites)} sites, but {len(self.sizes)} sizes")
        return allot(labels, self.sizes, rng)


class DirichletPartition(Partition):
    """Label skew: each label is dealt out in proportions drawn from a Dirichlet distribution.

    Source: Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for federated visual
    classification", 2019, https://arxiv.org/abs/1909.06335.

    Args:
        alpha: The distribution's concentration: large gives equal sites, small gives sites of few labels each.
        smallest: The number of patients that every site must have; proportions are drawn again until it holds.
    """

    def __init__(self, alpha: float = 0.5, smallest: int = 10) -> None:
        if not 0 < alpha < math.inf:
            raise InputError(f"alpha={alpha} is not a positive, finite number")
        self.alpha = alpha
        self.smallest = smallest

    def assign(self, labels: Labels, sites: Sequence[str], rng: np.random.Generator) -> Labels:
        """Give each patient a site."""
        for _ in range(1000):
            assigned = np.empty(len(labels), dtype=np.int64)
            for label in np.unique(labels):
                of_label = labels == label
                shares = rng.dirichlet([self.alpha] * len(sites)) + 1e-12
                assigned[of_label] = allot(labels[of_label], shares.tolist(), rng)
            if np.bincount(assigned, minlength=len(sites)).min() >= self.smallest:
                return assigned
        raise InputError(
            f"no split of {len(labels)} patients over {len(sites)} sites with alpha={self.alpha} left every site"
            f" {self.smallest} patients; take a larger alpha, fewer sites or a smaller `smallest`"
        )


class CountPartition(Partition):
    """The given number of patients of each label at each site, as in the paper's experiments; the rest is left out.

    Args:
        counts: For each site, in order, the number of patients of each label: ``[[300, 300], [500, 100]]``.
        file: A CSV file with these numbers instead, one row a site, such as the sizes of real hospitals.
        columns: The file's column of each label, in the labels' order.

    Raises:
        InputError: If there are not one list of numbers for each site, or the file has a cell that is no number.
    """

    def __init__(
        self, counts: list[list[int]] | None = None, file: str | None = None, columns: list[str] | None = None
    ) -> None:
        if (counts is None) == (file is None) or (file is None) != (not columns):
            raise InputError("CountPartition takes counts, or a file and its columns, one a label")
        self._file, self._columns = file, columns or []
        if file is None or os.path.lexists(file):  # where a trained model is used, the file need not be
            self.counts = self._checked(counts)

    def _checked(self, counts: list[list[int]] | None) -> list[list[int]]:
        counts = _read_counts(Path(self._file), self._columns) if self._file is not None else counts
        if not counts or min(min(row, default=0) for row in counts) < 0:
            raise InputError(f"counts={counts} are not one list of numbers for each site")
        return counts

    @cached_property
    def counts(self) -> list[list[int]]:
        """For each site, the number of patients of each label."""
        return self._checked(None)

    def assign(self, labels: Labels, sites: Sequence[str], rng: np.random.Generator) -> Labels:
        """Give each patient a site."""
        if len(self.counts) != len(sites):
            raise InputError(f"there are {len(sites)} sites, but counts for {len(self.counts)}")
        assigned = np.full(len(labels), -1, dtype=np.int64)
        for label in range(max(len(row) for row in self.counts)):
            wanted = [row[label] if label < len(row) else 0 for row in self.counts]
            patients = rng.permutation(np.flatnonzero(labels == label))
            if sum(wanted) > len(patients):
                raise InputError(
                    f"the counts ask for {sum(wanted)} patients of label {label}, but there are {len(patients)}"
                )
            assigned[patients[: sum(wanted)]] = np.repeat(np.arange(len(sites)), wanted)
        return assigned


def _read_counts(path: Path, columns: Sequence[str]) -> list[list[int]]:
    table = read_table(path, columns)
    for column in columns:
        for row, text in zip(table.index.tolist(), table[column].tolist(), strict=True):
            if not text.isdecimal() or len(text) > 12:
                raise InputError(f"{path}, row {row_number(row)}: {column} is {text[:50]!r}, which is no number from 0")
    return [[int(text) for text in cells] for cells in zip(*(table[each].tolist() for each in columns), strict=True)]


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
