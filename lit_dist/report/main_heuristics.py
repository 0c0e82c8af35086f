"""Which heuristics are shown where there is no room for all."""

import pandas as pd

from lit_dist.report.summary import baseline, groups
from lit_dist.tasks.task import Task


def best_of(labels: list[str], summary: pd.DataFrame, task: Task) -> str | None:
    """The heuristic with the best mean of the task's first measure; None where none has one."""
    rows = summary[summary["metric"] == task.primary].dropna(subset="mean")
    values = rows[rows["label"].isin(labels)].set_index("label")["mean"].astype(float)
    if values.empty:
        return None
    return str(values.idxmax() if task.measures[task.primary].better == "max" else values.idxmin())


def main_heuristics(results: pd.DataFrame, summary: pd.DataFrame, task: Task, most: int = 6) -> list[str]:
    """Central, then the best variant of each other heuristic, the best heuristics first if there are too many.

    Args:
        results: The columns of ``results.csv``.
        summary: The columns of ``summary.csv``.
        task: What is predicted.
        most: How many there may be.

    Returns:
        Their labels, in the order of the study.
    """
    runs = groups(results)
    first = baseline(runs)
    variants: dict[str, list[str]] = {}
    for label, own in runs.items():
        if label != first:
            variants.setdefault(str(own["heuristic"].iloc[0]), []).append(label)
    left = [best for labels in variants.values() if (best := best_of(labels, summary, task))]
    chosen = [] if first is None else [first]
    while left and len(chosen) < most:
        best = best_of(left, summary, task)
        chosen.append(str(best))
        left.remove(str(best))
    return [label for label in runs if label in chosen]
