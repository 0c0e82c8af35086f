"""TablePreparation: standardised columns, filled gaps and indicators of categories, as the first part of a network."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from typing_extensions import override

from lit_dist.models.column_sums import Columns, Sums, added
from lit_dist.utils.errors import InputError

_CONSTANT = 1e-13  # of the mean square: a smaller variance is the rounding of the sums


class TablePreparation(nn.Module):
    """Prepares the raw values of a table's rows for a network.

    Takes float (records, numeric + categorical), the numeric columns first, NaN where a value is missing; a category is
    a code, a whole number below 2**23. Gives float (records, ``features``), in which nothing is missing: each numeric
    column minus its mean, divided by its standard deviation, with the mean or the median where it was missing; then, if
    asked for, a 1 for each value that was missing; then a 1 for each known category, so that one that is unknown or
    missing has zeros only. A column that had one value, or none, gives zeros.

    What it has learnt, it has learnt from sums and counts over training records, see ``Columns``. It stands in buffers,
    which travel, are hashed and are saved with the weights.

    Args:
        numeric: The number of numeric columns.
        categorical: The number of columns of categories.
        slots: How many categories of each such column are known at most, the most frequent ones.
        indicators: Whether each numeric column has an indicator of what was missing.
        target: Whether the mean and the deviation of the targets are learnt, too.
        least: The least number of records that a sum or count is of that is learnt from.
        ranges: For each numeric column the least and the greatest value; missing values are then filled with the
            median, which is found by counting within that range, instead of the mean.
        bins: Into how many equal parts these ranges are divided.

    Attributes:
        records: The number of training records that it has learnt from; 0 before.

    Raises:
        InputError: If a setting is out of range.

    Example:
        >>> preparation = TablePreparation(1, least=1)
        >>> records = torch.tensor([[1.0], [3.0], [torch.nan]]), torch.zeros(3)
        >>> preparation.learn([preparation.columns.of([records])])
        >>> preparation(records[0]).flatten().tolist()
        [-1.0, 1.0, 0.0]
    """

    records: Tensor
    mean: Tensor
    scale: Tensor
    fill: Tensor
    codes: Tensor
    target_mean: Tensor
    target_deviation: Tensor

    def __init__(
        self,
        numeric: int,
        categorical: int = 0,
        slots: int = 16,
        indicators: bool = False,
        target: bool = False,
        least: int = 5,
        ranges: Sequence[Sequence[float]] | None = None,
        bins: int = 64,
    ) -> None:
        super().__init__()
        if min(numeric, categorical) < 0 or numeric + categorical < 1:
            raise InputError(
                f"numeric={numeric} and categorical={categorical} are the numbers of columns: give one at least"
            )
        for name, value, most in (("slots", slots, 1024), ("least", least, 10**6), ("bins", bins, 1024)):
            if not 1 <= value <= most:
                raise InputError(f"{name}={value} is not a number from 1 to {most}")
        self.indicators = indicators
        self.least_here = 1  # of this machine's records, whatever is agreed on
        self.columns = Columns(numeric, categorical, target, least, _ranges(ranges, numeric), bins)
        self.register_buffer("records", torch.zeros((), dtype=torch.int64))
        for name, unlearnt in (("mean", 0.0), ("scale", 1.0), ("fill", 0.0)):
            self.register_buffer(name, torch.full((numeric,), unlearnt))
        self.register_buffer("codes", torch.full((categorical, slots), -1, dtype=torch.int64))
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_deviation", torch.ones(()))

    def sums(self, batches: Iterable[Any]) -> Sums:
        """What may be known elsewhere of the records here, ``(inputs, targets)``."""
        return self.columns.of(batches, self.least_here)

    @property
    def features(self) -> int:
        """The number of values that a network gets of a record."""
        return self.columns.numeric * (1 + self.indicators) + self.codes.numel()

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """Prepare some records.

        Raises:
            InputError: If they have another number of columns, or are of a precision that has no room for codes.
        """
        numeric, wanted = self.columns.numeric, self.columns.numeric + self.columns.categorical
        if inputs.ndim != 2 or inputs.shape[1] != wanted:
            raise InputError(
                f"a batch has the shape {tuple(inputs.shape)}, and the model is for (records, {wanted}): set numeric"
                " and categorical of the model to the numbers of the data's columns"
            )
        if inputs.dtype not in (torch.float32, torch.float64):
            raise InputError(f"values of a table come as {inputs.dtype}, which rounds them: leave precision at 32-true,"
                             " or take bf16-mixed")  # fmt: skip
        values, known = inputs[:, :numeric], inputs[:, :numeric].isfinite()
        parts = [(torch.where(known, values, self.fill) - self.mean) * self.scale]
        if self.indicators:
            parts.append((~known).to(inputs.dtype))
        if self.columns.categorical:
            given = inputs[:, numeric:].nan_to_num(-2.0, -2.0, -2.0).long()
            parts.append((given[:, :, None] == self.codes).flatten(1).to(inputs.dtype))
        return torch.cat(parts, dim=1)

    def learn(self, each: Iterable[Sums]) -> None:
        """Learn from the sums of all sites, in their order.

        Raises:
            InputError: If they are of no record, or the ranges are not those of the values.
        """
        sums = added(each)
        if not sums or sums["records"] == 0:
            raise InputError(
                f"no site has {self.columns.least} training records, of which a sum has to be: set least of the model"
                " to a smaller number"
            )
        self.records.copy_(sums["records"])
        mean, deviation = _moments(sums["counts"], sums["sums"], sums["squares"])
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 0, 1 / deviation, 0.0))
        self.fill.copy_(self._medians(sums["histogram"], sums["counts"], mean) if "histogram" in sums else mean)
        for column in range(self.columns.categorical):
            self._know(column, sums[f"codes_{column}"], sums[f"code_counts_{column}"])
        if self.columns.target:
            of_target, spread = _moments(sums["records"], *sums["target_sums"])
            self.target_mean.copy_(of_target)
            self.target_deviation.copy_(torch.where(spread > 0, spread, 1.0))

    def _know(self, column: int, codes: Tensor, counts: Tensor) -> None:
        slots = self.codes.shape[1]
        kept = codes[(-counts).argsort(stable=True)][:slots]
        if len(codes) > slots:
            rank_zero_warn(
                f"{len(codes) - slots} of the {len(codes)} categories of the categorical column {column + 1} are not"
                f" known to the model, which has slots={slots}: the most frequent ones are"
            )
        self.codes[column] = -1
        self.codes[column, : len(kept)] = kept.to(self.codes.device)

    def _medians(self, histogram: Tensor, known: Tensor, mean: Tensor) -> Tensor:
        """The median of each column, between the edges of the part of its range that it is in."""
        low, high = self.columns.ranges.double().T
        counts = histogram.double()
        for column in ((known > 0) & ((mean < low) | (mean > high))).nonzero().flatten().tolist():
            raise InputError(
                f"the mean of the numeric column {column + 1} is {mean[column]:.6g}, and its values are counted from"
                f" {low[column]:g} to {high[column]:g}: give a range in ranges that holds most of them"
            )
        few = ((known > 0) & (2 * histogram.sum(1) < known)).nonzero().flatten().tolist()
        if few:
            rank_zero_warn(
                f"the medians of the numeric columns {', '.join(str(each + 1) for each in few)} are of fewer than half"
                f" of their values, or means: too few parts of their ranges have {self.columns.least} records of a"
                " site. Set bins to a smaller number"
            )
        half, until = counts.sum(1, keepdim=True) / 2, counts.cumsum(1)
        place = (until < half).sum(1, keepdim=True).clamp(max=counts.shape[1] - 1)
        inside = counts.gather(1, place)
        share = (half - until.gather(1, place) + inside) / inside.clamp(min=1)
        median = low + (high - low) * (place + share).flatten() / counts.shape[1]
        return torch.where(half.flatten() > 0, median, mean)


def learnt_before(module: nn.Module) -> list[str]:
    """The names of the tensors of a module that are learnt before its first step, and that no step changes."""
    parts = [(name, part) for name, part in module.named_modules() if isinstance(part, TablePreparation)]
    return [f"{name}.{each}".lstrip(".") for name, part in parts for each in part.state_dict()]


def _moments(n: Tensor, total: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of what was added up; 0 and 0 of nothing."""
    count = n.double().clamp(min=1)
    mean, square = total / count, squares / count
    variance = square - mean * mean
    return mean, torch.where(variance > _CONSTANT * square, variance, 0.0).sqrt()


def _ranges(given: Sequence[Sequence[float]] | None, numeric: int) -> Tensor:
    if given is None:
        return torch.empty(0, 2, dtype=torch.float64)
    fits = len(given) == numeric and all(len(each) == 2 and -1e30 < each[0] < each[1] < 1e30 for each in given)
    if not fits:
        raise InputError(
            f"ranges={given} are not {numeric} pairs of a least and a greatest value, one a numeric column"
        )
    return torch.tensor([list(each) for each in given], dtype=torch.float64)
