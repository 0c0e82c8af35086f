"""Whether chances are what they say: the Brier score, the calibration error, and the curve behind it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dist.report.bootstrap import patients_drawn, seeds_drawn
from lit_dist.report.intervals import FEWER_DRAWS, interval_of_both
from lit_dist.report.operating_points import chances, questions
from lit_dist.report.results import Part, Predictions
from lit_dist.tasks.task import Task

_Values = NDArray[np.float64]
_MOST_BINS, _FEWEST_RECORDS = 10, 20
_BY_CHANCE = 200


def calibration(found: Mapping[str, Predictions], task: Task) -> pd.DataFrame:
    """How well each heuristic's chances are calibrated, for each question that the task asks.

    The Brier score is the mean squared difference of the chance and of 1 or 0. The calibration error is the mean over
    bins of as many records, weighted by them, of the absolute difference of the mean chance and of the share that is so
    (the expected calibration error with adaptive bins); there are up to 10 bins of 20 records at least.

    Sources: Brier, Monthly Weather Review 1950; Naeini et al., AAAI 2015; Nguyen and O'Connor, EMNLP 2015 (the bins);
    Broecker and Smith, "Increasing the reliability of reliability diagrams", Weather and Forecasting 2007 (by chance).

    Returns:
        A row a heuristic and question, each value the mean over runs, then seeds: ``label``, ``question``, ``n``,
        ``positive``, ``brier`` with ``brier_low`` and ``brier_high``, its 95 % interval over seeds and patients,
        ``calibration_error``, and ``by_chance``, the error of chances on so many records that are exactly right.
    """
    rows = []
    for label, each in found.items():
        for question, truth in questions(each, task).items():
            own = {"label": label, "question": question, "n": len(truth), "positive": int(truth.sum())}
            rows.append({**own, **_brier(each, task, question), **_errors(each, task, question)})
    columns = ["label", "question", "n", "positive", "brier", "brier_low", "brier_high", "calibration_error"]
    return pd.DataFrame(rows, columns=[*columns, "by_chance"])


def calibration_curves(found: Mapping[str, Predictions], task: Task, labels: list[str]) -> pd.DataFrame:
    """What is so in bins of as many predictions of all runs, by the chances that were predicted.

    Returns:
        A row a heuristic, question and bin: ``label``, ``question``, ``predicted`` (the mean chance), ``observed`` (the
        share that is so), and ``low`` and ``high``, the ends of its 95 % interval over seeds and patients.
    """
    tables = []
    for label in labels:
        for question in questions(found[label], task):
            rows = _bins(found[label], task, question)
            tables.append(rows.assign(label=label, question=question))
    columns = ["label", "question", "predicted", "observed", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _runs(found: Predictions, task: Task, question: str) -> Iterator[tuple[int, float, Part, Tensor, Tensor]]:
    """The seed, weight among the seed's runs, part, chances and truth of each run."""
    for part in found.parts:
        for seed, runs in enumerate(part.scores):
            for scores in runs:
                yield seed, 1 / len(runs), part, *chances(found, task, question, part, scores)


def _brier(found: Predictions, task: Task, question: str) -> dict[str, float]:
    def values(often: Tensor) -> _Values:
        sums = torch.zeros(2, found.seeds, len(often), dtype=torch.float64)
        for seed, share, part, chance, truth in _runs(found, task, question):
            drawn = often[:, part.records]
            sums[0, seed] += share * (drawn @ (chance.double() - truth.double()).square())
            sums[1, seed] += share * drawn.sum(dim=1)
        return (sums[0] / sums[1]).numpy()

    once = values(torch.ones(1, len(found.targets), dtype=torch.float64))
    drawn = np.concatenate([values(often) for often in patients_drawn(found.patients, FEWER_DRAWS)], axis=1)
    low, high = interval_of_both(drawn, (0.0, 1.0))
    return {"brier": float(once.mean()), "brier_low": low, "brier_high": high}


def _errors(found: Predictions, task: Task, question: str) -> dict[str, float]:
    rng = np.random.default_rng(0)
    total = np.zeros((2, found.seeds))
    size = np.zeros(found.seeds)
    for seed, share, _, chance, truth in _runs(found, task, question):
        p = chance.numpy().astype(np.float64)
        weight = share * len(p)
        total[0, seed] += weight * calibration_error(p, truth.numpy()[None]).item()
        total[1, seed] += weight * calibration_error(p, rng.random((_BY_CHANCE, len(p))) < p).mean()
        size[seed] += weight
    error, by_chance = (total / size).mean(axis=1)
    return {"calibration_error": float(error), "by_chance": float(by_chance)}


def calibration_error(chance: _Values, truth: Any) -> _Values:
    """The expected calibration error with adaptive bins.

    Args:
        chance: The predicted chance of each record, (records,).
        truth: Whether it is so, in several cases, (cases, records).

    Returns:
        That of each case, (cases,).

    Example:
        >>> truth = np.repeat([[0, 1, 0]], [20, 20, 40], axis=1)
        >>> calibration_error(np.repeat([0.25, 0.75], 40), truth).round(3).tolist()
        [0.5]
    """
    inside = _members(chance, _edges(chance))
    found: _Values = np.abs((truth - chance) @ inside).sum(axis=1) / len(chance)
    return found


def _edges(chance: _Values) -> _Values:
    """Between bins of as many records; fewer where many have the same chance."""
    bins = min(max(len(chance) // _FEWEST_RECORDS, 1), _MOST_BINS)
    return np.unique(np.quantile(chance, np.linspace(0, 1, bins + 1)[1:-1]))


def _members(chance: _Values, edges: _Values) -> _Values:
    """Which bin each record is in, 1 or 0, (records, bins)."""
    inside: _Values = np.eye(len(edges) + 1)[np.searchsorted(edges, chance, side="right")]
    return inside


def _bins(found: Predictions, task: Task, question: str) -> pd.DataFrame:
    runs = list(_runs(found, task, question))
    edges = _edges(np.concatenate([chance.numpy().astype(np.float64) for *_, chance, _ in runs]))

    def sums(often: Tensor) -> _Values:
        """Of each seed, what is predicted, what is so, and the records, by bin: (3, seeds, resamples, bins)."""
        total = np.zeros((3, found.seeds, len(often), len(edges) + 1))
        for seed, share, part, chance, truth in runs:
            p = chance.numpy().astype(np.float64)
            inside, drawn = share * _members(p, edges), often[:, part.records].numpy()
            for number, value in enumerate((p, truth.numpy(), np.ones_like(p))):
                total[number, seed] += (drawn * value) @ inside
        return total

    predicted, observed, counts = sums(torch.ones(1, len(found.targets), dtype=torch.float64)).sum(axis=1)[:, 0]
    drawn = np.concatenate([sums(often) for often in patients_drawn(found.patients, FEWER_DRAWS)], axis=2)
    seeds = seeds_drawn(found.seeds, FEWER_DRAWS, np.random.default_rng(1)).T[:, :, None]
    _, several, weights = (drawn * seeds).sum(axis=1)
    shares = np.divide(several, weights, out=np.full_like(several, np.nan), where=weights > 0)
    low, high = np.nanquantile(shares, [0.025, 0.975], axis=0)
    kept = counts > 0
    rows = {"predicted": predicted, "observed": observed}
    return pd.DataFrame(
        {**{name: value[kept] / counts[kept] for name, value in rows.items()}, "low": low[kept], "high": high[kept]}
    )
