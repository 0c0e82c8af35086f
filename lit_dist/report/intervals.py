"""Intervals that hold both chances: that of training, by its seeds, and that of the test, by its patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lit_dist.report.bootstrap import compare_over_seeds, patients_drawn, seeds_drawn, widened
from lit_dist.report.results import Predictions, predictions
from lit_dist.report.summary import baseline, groups
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

_Values = NDArray[np.float64]
DRAWS, FEWER_DRAWS = 10_000, 2_000
"""Of the measures that heuristics are compared by, and of all others."""


def all_predictions(study: Path, results: pd.DataFrame, task: Task) -> dict[str, Predictions]:
    """What each heuristic of ``results.csv`` has predicted, by its label.

    Raises:
        InputError: If runs of a heuristic were tested on different records.
    """
    return {label: predictions(study, runs, task) for label, runs in groups(results).items()}


@dataclass(frozen=True, slots=True)
class Resampled:
    """A measure of several heuristics in the same resamples of the test's patients, and of the seeds.

    Attributes:
        n: The number of test records.
        values: The value of each seed, by heuristic, (seeds,).
        drawn: The same in each resample of patients, (seeds, resamples).
        seeds: How often each resample draws a heuristic's seeds, (seeds, resamples).
        within: The least and the greatest value that there can be.
    """

    n: int
    values: dict[str, _Values]
    drawn: dict[str, _Values]
    seeds: dict[str, _Values]
    within: tuple[float, float] = (-np.inf, np.inf)

    def value(self, label: str) -> float:
        """The mean over the seeds."""
        return float(self.values[label].mean())

    def of_patients(self, label: str) -> _Values:
        """The mean over the seeds in each resample of patients, (resamples,)."""
        found: _Values = self.drawn[label].mean(axis=0)
        return found

    def of_both(self, label: str) -> _Values:
        """The mean over the drawn seeds in each resample of patients and seeds, (resamples,)."""
        return weighted(self.drawn[label], self.seeds[label])

    def compared(self, one: str, other: str) -> dict[str, float]:
        """The difference of two means over the seeds, with its interval and ``p`` over patients and seeds."""
        of_seeds = {label: self._of_seeds(label) for label in (one, other)}
        return compare_over_seeds(
            self.value(one),
            self.value(other),
            self.of_both(one) - self.of_both(other),
            of_seeds[one] - of_seeds[other],
            min(len(self.values[one]), len(self.values[other])),
            self.within[1] - self.within[0],
        )

    def interval(self, label: str) -> tuple[float, float]:
        """The 95 % interval over patients and seeds of the mean over the seeds."""
        seeds = len(self.values[label])
        return widened(self.of_both(label), self._of_seeds(label), seeds, self.within)

    def _of_seeds(self, label: str) -> _Values:
        """The mean over the drawn seeds of the same patients, (resamples,)."""
        return weighted(self.values[label][:, None], self.seeds[label])


def weighted(values: _Values, weights: _Values) -> _Values:
    """The mean over the first axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    sums, counts = (np.where(known, values, 0) * weights).sum(axis=0), (known * weights).sum(axis=0)
    found: _Values = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return found


def interval_of_both(drawn: _Values, within: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float]:
    """The 95 % interval over seeds and patients of a mean over the seeds.

    Args:
        drawn: The value of each seed in each resample of patients, (seeds, resamples).
        within: The least and the greatest value that there can be.
    """
    seeds, draws = drawn.shape
    often = seeds_drawn(seeds, draws, np.random.default_rng(1)).T
    each = weighted(drawn.T, np.ones_like(drawn.T))[:, None]
    return widened(weighted(drawn, often), weighted(each, often), seeds, within)


def resample(
    found: Mapping[str, Predictions], task: Task, metrics: Sequence[str] | None = None, draws: int = DRAWS
) -> dict[str, Resampled]:
    """Judge all heuristics in the same resamples of patients and seeds.

    Args:
        found: What each heuristic has predicted, by its label.
        task: What is predicted.
        metrics: The measures; by default those that heuristics are compared by.
        draws: The number of resamples.

    Returns:
        By measure; those are left out that the task has no way to resample.

    Raises:
        InputError: If heuristics were tested on different records.
    """
    if not found:
        return {}
    first = next(iter(found.values()))
    if any(not each.table.equals(first.table) for each in found.values()):
        raise InputError("heuristics of the study were tested on different records")
    names = compared(task) if metrics is None else metrics
    once = torch.ones(1, len(first.targets), dtype=torch.float64)
    values: dict[str, dict[str, _Values]] = {}
    for name in names:
        try:
            values[name] = {label: each.values(task, name, once)[:, 0] for label, each in found.items()}
        except NotImplementedError:
            continue
    if not values:
        return {}  # nothing is to be drawn
    drawn: dict[str, dict[str, list[_Values]]] = {name: {label: [] for label in found} for name in values}
    for often in patients_drawn(first.patients, draws):
        for name, by_label in drawn.items():
            for label, each in found.items():
                by_label[label].append(each.values(task, name, often))
    seeds = _seeds(found, draws)
    return {
        name: Resampled(
            len(first.targets),
            values[name],
            {label: np.concatenate(some, 1) for label, some in by_label.items()},
            seeds,
            (task.measures[name].low, task.measures[name].high),
        )
        for name, by_label in drawn.items()
    }


def compared(task: Task) -> list[str]:
    """The measures that heuristics are compared by: the first one, and the one that is a mean over records."""
    return list(dict.fromkeys(each for each in (task.primary, task.each) if each))


def _seeds(found: Mapping[str, Predictions], draws: int) -> dict[str, _Values]:
    """The same seeds are drawn of all heuristics; one that lacks some has its mean over the others."""
    known = sorted({seed for each in found.values() for seed in each.seed_numbers})
    often = seeds_drawn(len(known), draws, np.random.default_rng(1))
    return {label: often[:, [known.index(seed) for seed in each.seed_numbers]].T for label, each in found.items()}


def with_both(summary: pd.DataFrame, results: pd.DataFrame, resampled: Mapping[str, Resampled]) -> pd.DataFrame:
    """Add the intervals of both chances to a summary.

    Args:
        summary: What ``summarise`` gives.
        results: The columns of ``results.csv``.
        resampled: The heuristics' values in resamples, by measure.

    Returns:
        The summary with ``both_low`` and ``both_high``, the 95 % interval of the mean, and ``both_difference_low`` and
        ``both_difference_high``, that of its difference from central; NaN where a measure is not resampled.
    """
    against = baseline(groups(results))
    rows = []
    for row in summary[["label", "metric"]].to_dict("records"):
        rows.append(_ends(resampled.get(row["metric"]), row["label"], against))
    names = ["both_low", "both_high", "both_difference_low", "both_difference_high"]
    return summary.assign(**pd.DataFrame(rows, columns=names, index=summary.index))


def _ends(found: Resampled | None, label: str, against: str | None) -> dict[str, float]:
    if found is None:
        return {}
    ends: dict[str, Any] = dict(zip(("both_low", "both_high"), found.interval(label), strict=True))
    if against is not None and label != against:
        between = found.compared(label, against)
        ends |= {f"both_difference_{end}": between[end] for end in ("low", "high")}
    return ends


def shown_intervals(summary: pd.DataFrame) -> pd.DataFrame:
    """A summary whose ``low`` and ``high``, and those of the difference, hold both chances, where that is known."""
    shown = summary.copy()
    for name in ("low", "high", "difference_low", "difference_high"):
        if f"both_{name}" in shown:
            shown[name] = shown[f"both_{name}"].fillna(shown[name])
    return shown
