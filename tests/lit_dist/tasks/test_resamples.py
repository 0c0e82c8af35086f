"""A measure of resamples is what the task judges of the records that are drawn."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lit_dist.tasks.classification import Classification
from lit_dist.tasks.multilabel import MultiLabel
from lit_dist.tasks.ordinal import OrdinalGrades
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.survival import Survival
from lit_dist.tasks.task import Task

RECORDS = 300  # more than are held at a time


def records(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Coarse scores, so that there are ties."""
    random = torch.Generator().manual_seed(0)
    outputs = torch.randint(-3, 4, (RECORDS, task.outputs), generator=random).float()
    labels: list[Any] = torch.randint(0, task.outputs, (RECORDS,), generator=random).tolist()
    if isinstance(task, MultiLabel):
        labels = ["".join(map(str, row)) for row in torch.randint(0, 2, outputs.shape, generator=random).tolist()]
    if isinstance(task, Survival):
        labels = [f"{n % 40}{'+' * (n % 3 == 0)}" for n in torch.randperm(RECORDS, generator=random).tolist()]
    if isinstance(task, Regression):
        labels = torch.randn(RECORDS, generator=random).tolist()
    return task.scores(outputs), torch.tensor(task.targets(labels))


@pytest.mark.parametrize("few", [False, True], ids=["", "three records"])
@pytest.mark.parametrize(
    "task",
    [Classification(2), Classification(4), OrdinalGrades(3), MultiLabel(3), Regression(), Survival()],
    ids=str,
)
def test_resamples_are_judged_as_the_records_that_are_drawn(task: Task, few: bool) -> None:
    scores, targets = records(task)
    even = np.full(RECORDS, 1 / RECORDS)
    often = torch.from_numpy(np.random.default_rng(0).multinomial(3 if few else RECORDS, even, size=20))
    judged_by = [name for name, measure in task.measures.items() if measure.better]
    for measure in [name for name in judged_by if (task.name, name) != ("survival", "loss")]:
        found = task.resampled(measure, scores, targets, often.double()).tolist()
        for value, times in zip(found, often, strict=True):
            rows = torch.arange(RECORDS).repeat_interleave(times)
            judged = task.judge(scores[rows], targets[rows])[measure].item()
            assert value == pytest.approx(judged, abs=1e-5, nan_ok=True)
        assert few or not any(map(math.isnan, found))


def test_other_measures_are_none_that_resamples_are_judged_by() -> None:
    scores, targets = records(Survival())
    with pytest.raises(NotImplementedError, match="survival has no way to judge resamples by loss"):
        Survival().resampled("loss", scores, targets, torch.ones(1, RECORDS))
