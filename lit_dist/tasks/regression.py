"""Regression: a number a record, such as an age."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import mse_loss
from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error
from typing_extensions import override

from lit_dist.tasks.resamples import weighted_fit, weighted_mean
from lit_dist.tasks.task import Measure, Rows, ValueTask

MOST = 1e18
"""The greatest number that a record may have: the squares of greater ones have no float32."""
_LEAST = -1e30
"""An R2 below is as far from meaning anything, and has no float32."""


class Regression(ValueTask):
    """A number a record; targets and predictions are float32, (records,), and outputs (records, 1).

    The loss is the mean squared error. R2 and Pearson's correlation are NaN where all records have one value.

    Example:
        >>> values = Regression().judge(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        >>> values["loss"].item(), values["mean_absolute_error"].item()
        (2.0, 1.0)
    """

    name: ClassVar[str] = "regression"
    measures: ClassVar[dict[str, Measure]] = {
        "loss": Measure("squared error", "min", low=0),
        "mean_absolute_error": Measure("mean absolute error", "min", low=0),
        "rmse": Measure("root mean squared error", "min", "sums", 0),
        "r2": Measure("R2", "max", "sums", -np.inf, 1, 0.0, "all have one value"),
        "pearson": Measure("Pearson's r", "max", "sums", -1, 1, 0.0, "all have, or are predicted, one value"),
    }
    main: ClassVar[tuple[str, ...]] = ("mean_absolute_error", "r2")
    each: ClassVar[str] = "mean_absolute_error"

    @override
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return mse_loss(outputs.reshape(len(targets)), targets.reshape(-1).to(outputs.dtype))

    @override
    def judge(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        targets = targets.reshape(-1).to(scores.dtype)
        loss = mean_squared_error(scores, targets)
        found = self.of_sums(self.sums(scores, targets))
        return {
            "loss": loss,
            "mean_absolute_error": mean_absolute_error(scores, targets),
            **{name: torch.full_like(loss, value) for name, value in found.items()},
        }

    @override
    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The number of records, the sums of values and predictions, of their squares, and of their products."""
        y, p = targets.reshape(-1).double(), scores.double()
        return torch.stack([torch.ones_like(y).sum(), y.sum(), p.sum(), y @ y, p @ p, y @ p])

    @override
    def fit_sums(self, sums: Sequence[Any], records: int) -> bool:
        if len(sums) != 6 or not all(type(each) is float and math.isfinite(each) for each in sums):
            return False
        n, y, p, yy, pp, yp = sums
        # Of no numbers are the sums of squares less than these (Cauchy and Schwarz), but for rounding.
        within = [(y * y, n * yy), (p * p, n * pp), (yp * yp, yy * pp)]
        return n == records and yy >= 0 and pp >= 0 and all(less <= more * (1 + 1e-6) for less, more in within)

    @override
    def of_sums(self, sums: Tensor) -> dict[str, float]:
        n, y, p, yy, pp, yp = sums.tolist()
        error = max(yy - 2 * yp + pp, 0.0)
        spread_y, spread_p, both = yy - y * y / n, pp - p * p / n, yp - y * p / n
        varied = spread_y > 1e-12 * yy  # of one value, nothing but the rounding of the sums is left
        defined = varied and spread_p > 1e-12 * pp
        return {
            "rmse": math.sqrt(error / n),
            "r2": max(1 - error / spread_y, _LEAST) if varied else math.nan,
            "pearson": min(max(both / math.sqrt(spread_y * spread_p), -1.0), 1.0) if defined else math.nan,
        }

    @override
    def of_each(self, scores: Tensor, targets: Tensor) -> Tensor:
        return (scores - targets.reshape(-1)).abs()

    @override
    def resampled(self, measure: str, scores: Tensor, targets: Tensor, often: Tensor) -> Tensor:
        values = targets.reshape(-1)
        if measure == "loss":
            return weighted_mean((scores - values).square(), often)
        if measure in ("rmse", "r2", "pearson"):
            return weighted_fit(measure, scores, values, often)
        return super().resampled(measure, scores, targets, often)

    @override
    def residuals(self, scores: Tensor, targets: Tensor) -> Tensor:
        return scores - targets.reshape(-1)

    @override
    def undefined(self, measure: str, labels: Any) -> str | None:
        return self.poor(labels) if measure in ("r2", "pearson") else None

    @override
    def guess(self, values: Mapping[str, float]) -> str | None:
        return "always guessing these records' mean (R2 not above 0)" if values.get("r2", 1.0) <= 0 else None

    @override
    def parse(self, text: str) -> float:
        return number(text)

    @override
    def targets(self, labels: Rows) -> NDArray[Any]:
        return np.asarray(labels, np.float32)

    @override
    def strata(self, labels: Rows) -> NDArray[np.int64]:
        """The fifths that the values are in."""
        values = np.asarray(labels, np.float64)
        edges = np.quantile(values, [0.2, 0.4, 0.6, 0.8]) if len(values) else np.empty(0)
        return np.searchsorted(edges, values, side="right").astype(np.int64)

    @override
    def summary(self, labels: Rows) -> dict[str, Any]:
        values = np.asarray(labels, np.float64)
        if not len(values):
            return dict.fromkeys(("mean", "sd", "least", "greatest"), math.nan)
        spread = values.std(ddof=1) if len(values) > 1 else math.nan
        found = {"mean": values.mean(), "sd": spread, "least": values.min(), "greatest": values.max()}
        return {name: float(f"{value:.4g}") for name, value in found.items()}

    @override
    def poor(self, labels: Rows) -> str | None:
        found = set(labels)
        return f"all of the value {found.pop()}" if len(found) == 1 else None

    @property
    @override
    def columns(self) -> list[str]:
        return ["value"]


def number(text: str) -> float:
    """A number that a person may have written.

    Raises:
        ValueError: If it is none, is not finite, or is so large that its square has no float32; it says what is taken.
    """
    try:
        value = math.nan if "_" in text else float(text)  # 1_000 is a number for Python alone
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("a number")
    if abs(value) > MOST:
        raise ValueError(f"a number from {-MOST:g} to {MOST:g}")
    return value
