"""Sensitivity, specificity and predictive values at a threshold that was chosen on validation records."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from lit_dist.report.bootstrap import patients_drawn
from lit_dist.report.intervals import FEWER_DRAWS, interval_of_both, weighted
from lit_dist.report.results import Part, Predictions
from lit_dist.study.report_settings import ReportSettings
from lit_dist.tasks.task import Task

_Values = NDArray[np.float64]
_Cuts = list[list[list[float]]]
RATES = {"sensitivity": (0, 1), "specificity": (3, 2), "ppv": (0, 2), "npv": (3, 1)}
"""Each rate by the counts that it is made of: the first over the sum of both."""
MOST_QUESTIONS = 20
"""Of tasks of more classes or findings nothing is said of each."""


def operating_points(found: Mapping[str, Predictions], task: Task, wanted: ReportSettings) -> pd.DataFrame:
    """How well each heuristic answers each question of the task at the thresholds that validation records gave.

    Each run has a threshold of its own, chosen on the records by which its best model was chosen.

    Args:
        found: What each heuristic has predicted, by its label.
        task: What is predicted.
        wanted: How a threshold is chosen.

    Returns:
        A row a heuristic and question: ``label``, ``question``, ``n`` and ``positive`` (test records), ``threshold``
        (the mean over runs), and each of ``RATES`` with ``_low`` and ``_high``, its 95 % interval over seeds and
        patients. Rows of heuristics with a run whose threshold is not known are left out.
    """
    rows = []
    for label, each in found.items():
        for question, truth in questions(each, task).items():
            cut = _thresholds(each, task, question, wanted)
            if cut is not None:
                own = {"label": label, "question": question, "n": len(truth), "positive": int(truth.sum())}
                middle = np.mean([value for seeds in cut for runs in seeds for value in runs])
                rows.append({**own, "threshold": middle, **_rates(each, task, question, cut)})
    ends = [f"{rate}{end}" for rate in RATES for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["label", "question", "n", "positive", "threshold", *ends])


def questions(found: Predictions, task: Task) -> dict[str, Tensor]:
    """Whether each test record is what the task asks for, bool, (records,), by question; none of too many classes."""
    some = found.parts[0]
    scores = some.scores[0][0][:1].expand(len(found.targets), *some.scores[0][0].shape[1:])
    asked = {name: truth for name, (_, truth) in task.questions(scores, found.targets).items()}
    return asked if len(asked) <= MOST_QUESTIONS else {}


def chances(found: Predictions, task: Task, question: str, part: Part, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The chances of yes by the scores of a part's run, and whether it is so."""
    return task.questions(scores, found.targets[part.records])[question]


def threshold(chance: Tensor, truth: Tensor, wanted: ReportSettings) -> float | None:
    """The least chance that is taken for a yes, by Youden's index, or by the sensitivity or specificity that is wanted.

    Of several with the same index it is the most sensitive one.

    Source: Youden, "Index for rating diagnostic tests", Cancer 1950.

    Returns:
        None where all records are of one kind.

    Example:
        >>> chance, truth = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True])
        >>> [round(threshold(chance, truth, wanted), 2) for wanted in (ReportSettings(), ReportSettings(0.5))]
        [0.35, 0.8]
    """
    yes, no = (np.sort(chance[kind].numpy().astype(np.float64)) for kind in (truth, ~truth))
    if not (len(yes) and len(no)):
        return None
    values = np.append(np.unique(np.concatenate([yes, no])), np.inf)
    sensitivity = 1 - np.searchsorted(yes, values) / len(yes)
    specificity = np.searchsorted(no, values) / len(no)
    if wanted.sensitivity is not None:
        return float(values[sensitivity >= wanted.sensitivity][-1])
    if wanted.specificity is not None:
        return float(values[specificity >= wanted.specificity][0])
    sums = sensitivity + specificity
    return float(values[sums >= sums.max() - 1e-9][0])


def _thresholds(
    found: Predictions, task: Task, question: str, wanted: ReportSettings
) -> list[list[list[float]]] | None:
    """Those of each part, seed and run; None where one is not known."""
    cuts: _Cuts = []
    for part in found.parts:
        cuts.append([])
        for runs in part.validation:
            chosen = [each and threshold(*task.questions(*each)[question], wanted) for each in runs]
            known = [value for value in chosen if isinstance(value, float)]
            if len(known) < len(chosen):
                return None
            cuts[-1].append(known)
    return cuts


def _rates(found: Predictions, task: Task, question: str, cut: _Cuts) -> dict[str, float]:
    once = torch.ones(1, len(found.targets), dtype=torch.float64)
    counts = _counts(found, task, question, cut, once)
    drawn = [_counts(found, task, question, cut, often) for often in patients_drawn(found.patients, FEWER_DRAWS)]
    resampled = np.concatenate(drawn, axis=2)
    # Records of one patient are not independent: all of them together count once.
    share = torch.from_numpy(1 / np.bincount(found.patients)[found.patients])[None]
    people = _counts(found, task, question, cut, share)
    row: dict[str, float] = {}
    for rate, (part, rest) in RATES.items():
        own, several = (_ratio(each[part], each[part] + each[rest]) for each in (counts, resampled))
        value = weighted(own, np.ones_like(own)).item()
        low, high = interval_of_both(several, (0.0, 1.0))
        if low == high:  # all that count are right, or none is: no resample can differ
            size = max(round(float((people[part] + people[rest]).mean())), 1)
            low, high = stats.binomtest(round(value * size), size).proportion_ci(method="exact")
        row |= {rate: value, f"{rate}_low": low, f"{rate}_high": high}
    return row


def _ratio(part: _Values, whole: _Values) -> _Values:
    found: _Values = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
    return found


def _counts(found: Predictions, task: Task, question: str, cut: _Cuts, often: Tensor) -> Any:
    """Right and missed yes, wrong yes and right no, of each seed as the mean over its runs: (4, seeds, resamples)."""
    total = torch.zeros(4, found.seeds, len(often), dtype=torch.float64)
    for place, part in enumerate(found.parts):
        drawn = often[:, part.records]
        for seed, runs in enumerate(part.scores):
            for scores, least in zip(runs, cut[place][seed], strict=True):
                chance, truth = chances(found, task, question, part, scores)
                yes = chance.double() >= least
                cells = torch.stack([yes & truth, ~yes & truth, yes & ~truth, ~yes & ~truth]).double()
                total[:, seed] += cells @ drawn.T / len(runs)
    return total.numpy()


def without_thresholds(found: Mapping[str, Predictions]) -> Iterator[str]:
    """The labels of heuristics with runs that have left no predictions of validation records."""
    for label, each in found.items():
        if any(run is None for part in each.parts for runs in part.validation for run in runs):
            yield label
