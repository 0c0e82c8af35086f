"""ROC and precision-recall curves, with bands over seeds and patients."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from lit_dist.report.bootstrap import patients_drawn, seeds_drawn
from lit_dist.report.intervals import weighted
from lit_dist.report.operating_points import chances, questions
from lit_dist.report.results import Predictions
from lit_dist.tasks.task import Task

_Values = NDArray[np.float64]
GRID = np.linspace(0, 1, 101)
_DRAWS = 400
_AREAS: dict[str, Callable[..., Tensor]] = {"roc": binary_auroc, "precision_recall": binary_average_precision}


def curves(found: Mapping[str, Predictions], task: Task, labels: Sequence[str]) -> pd.DataFrame:
    """The curves of some heuristics, for each question that the task asks.

    A curve is the mean of the runs' curves: of the sensitivities at each rate of false alarms, and of the precisions at
    each recall.

    Returns:
        ``curve`` (``roc`` or ``precision_recall``), ``label``, ``question``, ``area`` (the mean of the runs' AUROC or
        average precision), ``positive`` (the share of records that are), ``x`` and ``y``, and ``low`` and ``high``, the
        ends of a 95 % interval of ``y`` over seeds and patients.
    """
    tables = []
    for label in labels:
        for question, truth in questions(found[label], task).items():
            if not 0 < int(truth.sum()) < len(truth):
                continue
            mean, low, high = _with_bands(found[label], task, question)
            for number, (curve, area) in enumerate(_areas(found[label], task, question).items()):
                own = {"curve": curve, "label": label, "question": question, "area": area}
                ends = {"y": mean[number], "low": low[number], "high": high[number]}
                tables.append(pd.DataFrame({**own, "positive": truth.double().mean().item(), "x": GRID, **ends}))
    columns = ["curve", "label", "question", "area", "positive", "x", "y", "low", "high"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _areas(found: Predictions, task: Task, question: str) -> dict[str, float]:
    areas: dict[str, list[float]] = {curve: [] for curve in _AREAS}
    for part in found.parts:
        for scores in (run for runs in part.scores for run in runs):
            chance, truth = chances(found, task, question, part, scores)
            if 0 < int(truth.sum()) < len(truth):
                for curve, area in _AREAS.items():
                    areas[curve].append(float(area(chance, truth.long())))
    return {curve: float(np.mean(values)) if values else np.nan for curve, values in areas.items()}


def _with_bands(found: Predictions, task: Task, question: str) -> tuple[_Values, _Values, _Values]:
    """The curves and the ends of their bands, each (2, points)."""
    once = torch.ones(1, len(found.targets), dtype=torch.float64)
    mean = _of_seeds(found, task, question, once)
    drawn = [_of_seeds(found, task, question, often) for often in patients_drawn(found.patients, _DRAWS)]
    seeds = seeds_drawn(found.seeds, _DRAWS, np.random.default_rng(1)).T[:, None, :, None]
    several = weighted(np.concatenate(drawn, axis=2), seeds)
    low, high = np.nanquantile(several, [0.025, 0.975], axis=1)
    return weighted(mean, np.ones_like(mean))[:, 0], low, high


def _of_seeds(found: Predictions, task: Task, question: str, often: Tensor) -> _Values:
    """The mean of the curves of each seed's runs: (seeds, 2, resamples, points)."""
    total = np.zeros((found.seeds, 2, len(often), len(GRID)))
    known = np.zeros_like(total)
    for part in found.parts:
        for seed, runs in enumerate(part.scores):
            for scores in runs:
                own = _of_run(*chances(found, task, question, part, scores), often[:, part.records])
                total[seed] += np.nan_to_num(own)
                known[seed] += ~np.isnan(own)
    mean: _Values = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
    return mean


def _of_run(chance: Tensor, truth: Tensor, often: Tensor) -> _Values:
    """Both curves of one run in each resample: (2, resamples, points); NaN where all that is drawn is of one kind."""
    order = chance.argsort(descending=True, stable=True)
    falling = chance[order]
    last = torch.cat([falling[1:] != falling[:-1], torch.tensor([True])])  # of those with the same chance
    drawn = often[:, order]
    found, wrong = (
        torch.cat([drawn.new_zeros(len(drawn), 1), (drawn * kind[order]).cumsum(dim=1)[:, last]], dim=1).numpy()
        for kind in (truth, ~truth)
    )
    curves = np.full((2, len(often), len(GRID)), np.nan)
    for number in np.flatnonzero((found[:, -1] > 0) & (wrong[:, -1] > 0)):
        recall = found[number] / found[number, -1]
        curves[0, number] = np.interp(GRID, wrong[number] / wrong[number, -1], recall)
        reached = np.searchsorted(recall, np.maximum(GRID - 1e-9, 1e-9))
        curves[1, number] = found[number, reached] / (found[number, reached] + wrong[number, reached])
    return curves
