"""Measures of many resamples of the same records at once, for a bootstrap."""

import torch
from torch import Tensor

_BLOCK = 256
"""Records whose pairs with all others are held at a time."""


def weighted_mean(values: Tensor, often: Tensor) -> Tensor:
    """The mean of each resample: float64, (resamples,); NaN where nothing is drawn.

    Args:
        values: One a record, (records,).
        often: How often each record is drawn, float64, (resamples, records).
    """
    return (often @ values.double()) / often.sum(dim=1)


def weighted_auroc(scores: Tensor, positive: Tensor, often: Tensor) -> Tensor:
    """The area under the ROC curve of each resample, ties half right: float64, (resamples,).

    Args:
        scores: One a record, (records,).
        positive: Which records are of the class, bool, (records,).
        often: How often each record is drawn, float64, (resamples, records).

    Returns:
        NaN where all that is drawn is of one class.

    Example:
        >>> often = torch.tensor([[1.0, 1, 1, 1], [0, 2, 1, 0], [0, 0, 1, 1]], dtype=torch.float64)
        >>> weighted_auroc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, False, True, True]), often)
        tensor([0.8750, 0.5000,    nan], dtype=torch.float64)
    """
    negatives, order = scores[~positive].sort()
    by_record = often.T.contiguous()  # so that whole rows are taken
    present, absent = by_record[positive], by_record[~positive][order]
    # How many negatives are drawn below each place among them.
    below = torch.cat([absent.new_zeros(1, len(often)), absent.cumsum(dim=0)])
    first, last = (torch.searchsorted(negatives, scores[positive], side=side) for side in ("left", "right"))
    right = (present * (below[first] + below[last])).sum(dim=0) / 2
    return right / (present.sum(dim=0) * absent.sum(dim=0))


def weighted_kappa(predicted: Tensor, targets: Tensor, grades: int, often: Tensor) -> Tensor:
    """Cohen's kappa with quadratic weights of each resample: float64, (resamples,).

    Args:
        predicted: Grades, int64, (records,).
        targets: Grades, int64, (records,).
        grades: How many there are.
        often: How often each record is drawn, float64, (resamples, records).

    Returns:
        NaN where all that is drawn is of one grade, and predicted to be.
    """
    cells = often.new_zeros(len(often), grades * grades).index_add(1, targets * grades + predicted, often)
    table = cells.reshape(-1, grades, grades)
    numbers = torch.arange(grades, dtype=torch.float64, device=often.device)
    missed = (numbers[:, None] - numbers).square()
    by_chance = table.sum(dim=2)[:, :, None] * table.sum(dim=1)[:, None, :]
    total = often.sum(dim=1)
    return 1 - total * (table * missed).sum(dim=(1, 2)) / (by_chance * missed).sum(dim=(1, 2))


def weighted_concordance(risks: Tensor, times: Tensor, events: Tensor, often: Tensor) -> Tensor:
    """Harrell's C-index of each resample: float64, (resamples,); NaN where no pair is known.

    Args:
        risks: One a record, (records,).
        times: When each record was last seen, (records,).
        events: Whether the event came then, bool, (records,).
        often: How often each record is drawn, float64, (resamples, records).
    """
    right = often.new_zeros(len(often))
    pairs = right.clone()
    for first in events.nonzero().flatten().split(_BLOCK):
        later = (times > times[first, None]) | ((times == times[first, None]) & ~events)
        difference = risks[first, None] - risks
        points = ((difference > 0).double() + 0.5 * (difference == 0).double()) * later
        right = right + (often[:, first] * (often @ points.T)).sum(dim=1)
        pairs = pairs + (often[:, first] * (often @ later.double().T)).sum(dim=1)
    return right / pairs


def weighted_recall(predicted: Tensor, targets: Tensor, classes: int, often: Tensor) -> Tensor:
    """The mean recall of the classes that each resample has: float64, (resamples,).

    Args:
        predicted: Classes, int64, (records,).
        targets: Classes, int64, (records,).
        classes: How many there are.
        often: How often each record is drawn, float64, (resamples, records).
    """
    right = often * (predicted == targets)
    counts, found = (often.new_zeros(len(often), classes).index_add(1, targets, each) for each in (often, right))
    return (found / counts).nanmean(dim=1)


def weighted_fit(measure: str, predicted: Tensor, values: Tensor, often: Tensor) -> Tensor:
    """``"rmse"``, ``"r2"`` or ``"pearson"`` of each resample: float64, (resamples,).

    Args:
        measure: Which of them.
        predicted: One number a record, (records,).
        values: What it is, (records,).
        often: How often each record is drawn, float64, (resamples, records).

    Returns:
        NaN where a correlation or R2 is that of one value.
    """
    y, p = values.double() - values.double().mean(), predicted.double() - values.double().mean()
    n, ys, ps, yy, pp, yp = (often @ torch.stack([torch.ones_like(y), y, p, y * y, p * p, y * p], dim=1)).unbind(dim=1)
    error = (yy - 2 * yp + pp).clamp_min(0)
    spread_y, spread_p = yy - ys * ys / n, pp - ps * ps / n
    if measure == "rmse":
        return (error / n).sqrt()
    varied = spread_y > 1e-12 * yy
    if measure == "r2":
        return torch.where(varied, 1 - error / spread_y, torch.nan)
    found = ((yp - ys * ps / n) / (spread_y * spread_p).sqrt()).clamp(-1, 1)
    return torch.where(varied & (spread_p > 1e-12 * pp), found, torch.nan)
