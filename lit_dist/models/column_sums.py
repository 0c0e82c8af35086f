"""What is counted and added up of a table's columns at a site, so that nobody else needs its records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_dist.utils.errors import InputError

CODES = 2**23
"""Categories are numbers below this one: float32 has each of them exactly."""

MOST_CATEGORIES = 1024
"""The greatest number of categories of a column that a site counts."""

Sums = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Columns:
    """What is counted, and how.

    Attributes:
        numeric: The number of numeric columns, which stand first.
        categorical: The number of columns of categories, as codes, behind them.
        target: Whether the targets are added up, too.
        least: The least number of records that a sum or count is of: what is of fewer is left out.
        ranges: For medians, the least and the greatest value of each numeric column, (numeric, 2); empty for none.
        bins: Into how many equal parts each range is divided.
    """

    numeric: int
    categorical: int
    target: bool
    least: int
    ranges: Tensor
    bins: int

    def of(self, batches: Iterable[Any], least: int = 1) -> Sums:
        """Count and add up the records of a site, ``(inputs, targets)``, NaN where a value is missing.

        Args:
            batches: The records.
            least: The site's own least number of records, if it is greater than that agreed on.

        Returns:
            ``records``, int64, (); by numeric column ``counts``, int64, and ``sums`` and ``squares``, float64; of the
            targets ``target_sums``, float64, the sum and the sum of squares; ``histogram``, int64, (numeric, bins); by
            column of categories ``codes_N`` and ``code_counts_N``, int64, in the order of the codes.
        """
        sums, none = self.nothing(), torch.zeros(0, dtype=torch.int64)
        codes = [(none, none)] * self.categorical
        for inputs, targets in batches:
            values = inputs.double().cpu()
            self._add(sums, values[:, : self.numeric], targets.cpu())
            for column, given in enumerate(values[:, self.numeric :].T):
                found, counts = given[given.isfinite()].long().unique(return_counts=True)
                codes[column] = _merged(found, counts, *codes[column])
        return self._published(sums, codes, max(self.least, least))

    def nothing(self) -> Sums:
        """The sums of no record, but for the categories."""
        sums = {
            "records": torch.zeros((), dtype=torch.int64),
            "counts": torch.zeros(self.numeric, dtype=torch.int64),
            "sums": torch.zeros(self.numeric, dtype=torch.float64),
            "squares": torch.zeros(self.numeric, dtype=torch.float64),
        }
        if self.target:
            sums["target_sums"] = torch.zeros(2, dtype=torch.float64)
        if len(self.ranges):
            sums["histogram"] = torch.zeros(self.numeric, self.bins, dtype=torch.int64)
        return sums

    def _add(self, sums: Sums, values: Tensor, targets: Tensor) -> None:
        known = values.isfinite()
        found = torch.where(known, values, 0.0)
        sums["records"] += len(values)
        sums["counts"] += known.sum(0)
        sums["sums"] += found.sum(0)
        sums["squares"] += (found * found).sum(0)
        if self.target:
            wanted = targets.double().reshape(-1)
            sums["target_sums"] += torch.stack([wanted.sum(), wanted @ wanted])
        if len(self.ranges):
            low, high = self.ranges.double().T
            place = ((found - low) / (high - low) * self.bins).floor().clamp(0, self.bins - 1).long()
            sums["histogram"].scatter_add_(1, place.T, known.T.long())

    def _published(self, sums: Sums, codes: list[tuple[Tensor, Tensor]], least: int) -> Sums:
        """What is of enough records."""
        few = sums["counts"] < least
        for name in ("counts", "sums", "squares"):
            sums[name][few] = 0
        if len(self.ranges):
            sums["histogram"][(sums["histogram"] < least) | few[:, None]] = 0
        if sums["records"] < least:
            sums |= {name: torch.zeros_like(each) for name, each in sums.items()}
        for column, (found, counts) in enumerate(codes):
            often = counts >= least
            if often.sum() > MOST_CATEGORIES:
                raise InputError(
                    f"the categorical column {column + 1} has {int(often.sum())} categories, more than"
                    f" {MOST_CATEGORIES}: if it holds numbers or names, take it out of categorical"
                )
            sums[f"codes_{column}"], sums[f"code_counts_{column}"] = found[often], counts[often]
        return sums

    def check(self, found: Any, records: int) -> Sums:
        """Look at what a site has sent.

        Args:
            found: What is to be its sums.
            records: How many training records it has said that it has.

        Raises:
            InputError: If they cannot be the sums of so many records.
        """
        like, categories = self.nothing(), range(self.categorical)
        names = {*like, *(f"{name}_{column}" for name in ("codes", "code_counts") for column in categories)}
        if not isinstance(found, Mapping) or found.keys() != names:
            raise InputError("its sums have other names than those that were asked for")
        for name, value in found.items():
            shape = like[name].shape if name in like else None
            kind = like[name].dtype if name in like else torch.int64
            fits = isinstance(value, Tensor) and value.dtype == kind and (shape is None or value.shape == shape)
            if not fits or (shape is None and (value.ndim != 1 or len(value) > MOST_CATEGORIES)):
                raise InputError(f"its {name} have another shape or type than was asked for")
            if not value.isfinite().all():
                raise InputError(f"its {name} are not finite")
        self._check_numbers(found, records)
        for column in categories:
            codes, counts = found[f"codes_{column}"], found[f"code_counts_{column}"]
            rising = len(codes) == len(counts) and bool((codes.diff() > 0).all())
            within = bool(((codes >= 0) & (codes < CODES) & (counts >= self.least)).all()) if rising else False
            if not within or counts.sum() > records:
                raise InputError(f"its codes_{column} are not those of {records} records")
        return dict(found)

    def _check_numbers(self, found: Mapping[str, Tensor], records: int) -> None:
        n, s, ss = found["counts"].double(), found["sums"], found["squares"]
        fits = 0 <= found["records"] <= records and bool(((n >= 0) & (n <= found["records"]) & (ss >= 0)).all())
        # Of no numbers is the sum of squares less than this (Cauchy and Schwarz), but for rounding.
        fits = fits and bool((s * s <= n * ss * (1 + 1e-9)).all())
        if self.target:
            total, squares = found["target_sums"].tolist()
            fits = fits and squares >= 0 and total * total <= float(found["records"]) * squares * (1 + 1e-9)
        if len(self.ranges):
            histogram = found["histogram"]
            fits = fits and bool((histogram >= 0).all()) and bool((histogram.sum(1) <= found["counts"]).all())
        if not fits:
            raise InputError(f"its sums are not those of {records} records")


def added(each: Iterable[Sums]) -> Sums:
    """Add the sums of sites up, in their order; of categories, the counts of each code."""
    total: Sums = {}
    for sums in each:
        for name, value in sums.items():
            if name.startswith("codes_"):
                counts = f"code_counts_{name.removeprefix('codes_')}"
                before = (total[name], total[counts]) if name in total else (value[:0], value[:0])
                total[name], total[counts] = _merged(value, sums[counts], *before)
            elif not name.startswith("code_counts_"):
                total[name] = total[name] + value if name in total else value
    return total


def _merged(codes: Tensor, counts: Tensor, before: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of both, in their order, each with its counts added up."""
    found, place = torch.cat([before, codes]).unique(return_inverse=True)
    return found, torch.zeros_like(found).scatter_add_(0, place, torch.cat([counted, counts]))
