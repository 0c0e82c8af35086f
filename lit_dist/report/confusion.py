"""What records of each class are taken for."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lit_dist.report.results import Predictions
from lit_dist.tasks.task import Task


def confusion(found: Mapping[str, Predictions], task: Task) -> pd.DataFrame:
    """How often the runs of each heuristic have taken test records of each class for each other.

    Returns:
        ``label``, ``true`` and ``predicted`` (names of classes), and ``count``, of all runs together; no rows where the
        task has no classes, of which each record has one.
    """
    rows = []
    for label, each in found.items():
        for (true, predicted), count in _counts(each, task).items():
            rows.append({"label": label, "true": true, "predicted": predicted, "count": count})
    return pd.DataFrame(rows, columns=["label", "true", "predicted", "count"])


def _counts(found: Predictions, task: Task) -> dict[tuple[str, str], int]:
    names = list(getattr(task, "class_names", []))
    table = np.zeros((len(names), len(names)), np.int64)
    for part in found.parts:
        for scores in (run for runs in part.scores for run in runs):
            chosen = task.choices(scores)
            if chosen is None or scores.shape[1] > len(names):
                return {}
            np.add.at(table, (found.targets[part.records].numpy(), chosen.numpy()), 1)
    return {(names[row], names[column]): int(count) for (row, column), count in np.ndenumerate(table)}
