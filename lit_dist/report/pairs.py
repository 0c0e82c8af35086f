"""Which heuristics differ on the same test records, and how small a difference these can show."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lit_dist.report.bootstrap import compare, holm
from lit_dist.report.intervals import Resampled
from lit_dist.tasks.task import Task

_COLUMNS = ["metric", "first", "second", "n", "difference", "low", "high", "p", "p_adjusted"]
_BOTH = ["both_low", "both_high", "both_p", "both_p_adjusted"]


def compare_pairs(resampled: Mapping[str, Resampled]) -> pd.DataFrame:
    """Compare any two heuristics on the same test records by a paired bootstrap.

    Args:
        resampled: The heuristics' values in the same resamples, by measure.

    Returns:
        ``metric``, ``first``, ``second`` (labels), ``n``, the values of ``compare`` over patients alone, and
        ``p_adjusted`` for the number of pairs, by Holm's way; then the same over patients and seeds, ``both_low``,
        ``both_high``, ``both_p`` and ``both_p_adjusted``.
    """
    rows: list[dict[str, Any]] = []
    for metric, found in resampled.items():
        pairs = []
        for one, other in combinations(found.values, 2):
            values = found.value(one), found.value(other)
            patients = compare(*values, found.of_patients(one) - found.of_patients(other))
            both = found.compared(one, other)
            named = {"metric": metric, "first": one, "second": other, "n": found.n}
            pairs.append({**named, **patients, **{f"both_{name}": both[name] for name in ("low", "high", "p")}})
        for name in ("p", "both_p"):
            adjusted = holm(np.array([pair[name] for pair in pairs]))
            pairs = [{**pair, f"{name}_adjusted": p} for pair, p in zip(pairs, adjusted, strict=True)]
        rows += pairs
    return pd.DataFrame(rows, columns=[*_COLUMNS, *_BOTH])


def resolution(pairs: pd.DataFrame, task: Task) -> str:
    """How small a difference the test records can show, as a line; empty where there are no pairs."""
    pairs = pairs[pairs["metric"] == task.primary].dropna(subset="both_low")
    if pairs.empty:
        return ""
    title, reach = task.measures[task.primary].title, ((pairs["both_high"] - pairs["both_low"]) / 2).median()
    line = (
        f"On these {pairs['n'].iloc[0]} test records a difference of {title} is known to about {reach:.2g} either way"
    )
    if (pairs["both_p_adjusted"] < 0.05).any():
        return f"{line}."
    return f"{line}: too few to tell any two of these heuristics apart."
