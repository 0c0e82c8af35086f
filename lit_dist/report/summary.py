"""What a study's results say: means with their intervals, and differences with theirs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lit_dist.report.results import WHICH, label_of
from lit_dist.tasks.task import Task


def summarised(task: Task) -> list[str]:
    """The measures that a summary has, the loss last."""
    judged = [name for name, measure in task.measures.items() if measure.better]
    return sorted(judged, key=lambda name: name == "loss")


def interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of independent values, by Student's t.

    Args:
        values: One a seed.
        level: How often such an interval holds the true mean.

    Returns:
        Its ends; NaN for fewer than two values.

    Example:
        >>> [round(end, 3) for end in interval(np.array([0.7, 0.8, 0.9]))]
        [0.552, 1.048]
    """
    if len(values) < 2:
        return np.nan, np.nan
    reach = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def summarise(results: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Summarise results over seeds: one row a heuristic (with its options) and metric.

    Of single-institution models, the value of a seed is the mean over its sites' models. A seed that lacks one of them
    is left out. The share of central and the difference from it are of the seeds that both have.

    Returns:
        ``label``, those of ``WHICH``, ``metric``, ``seeds``, ``mean``, ``sd``, the 95 % interval of the mean (``low``,
        ``high``; within what the metric can be), ``share_of_central``, and the mean paired difference from central with
        its interval (``difference``, ``difference_low``, ``difference_high``); NaN where there is too little for it.
    """
    runs, metrics = groups(results), summarised(task)
    by_seed = {label: group.groupby("seed")[metrics].mean() for label, group in runs.items()}
    against = baseline(runs)
    central = by_seed[against] if against else None
    rows = []
    for label, values in by_seed.items():
        which = runs[label][WHICH].iloc[0].to_dict()
        for metric in metrics:
            own = values[metric].astype(np.float64)
            measure = task.measures[metric]
            low, high = np.clip(interval(np.asarray(own, np.float64)), measure.low, measure.high)
            row = {"label": label, **which, "metric": metric, "seeds": len(own), "mean": own.mean()}
            row |= {"sd": own.std(ddof=1), "low": low, "high": high}
            if central is not None and measure.low >= 0:  # a share of what may be negative says nothing
                both = own.index.intersection(central.index)
                whole = central.loc[both, metric].mean()
                row["share_of_central"] = own[both].mean() / whole if whole else np.nan
            if central is not None and label != against:
                paired = np.asarray((own - central[metric]).dropna(), np.float64)
                row["difference"] = paired.mean() if len(paired) else np.nan
                row["difference_low"], row["difference_high"] = interval(paired)
            rows.append(row)
    columns = ["label", *WHICH, "metric", "seeds", "mean", "sd", "low", "high", "share_of_central"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "difference_low", "difference_high"])


def baseline(runs: Mapping[str, pd.DataFrame]) -> str | None:
    """The label of what all others are compared with: central, or the first central with callbacks."""
    central = [label for label, group in runs.items() if group["kind"].iloc[0] == "central"]
    return "central" if "central" in central else next(iter(central), None)


def what_it_does_not_say(summary: pd.DataFrame, results: pd.DataFrame, task: Task) -> list[str]:
    """What the numbers of a summary do not say by themselves, as lines."""
    lines = []
    for name, measure in task.measures.items():
        if measure.undefined and summary.loc[summary["metric"] == name, "mean"].isna().any():
            lines.append(f"The {measure.title} is undefined where {measure.undefined}, as in this test.")
    first = results.iloc[0]
    hard = {name: float(first[name]) for name, measure in task.measures.items() if measure.better is None}
    values = summary.pivot(index="label", columns="metric", values="mean").loc[summary["label"].unique()]
    guesses: dict[str, list[str]] = {}
    for label, row in values.iterrows():
        if guess := task.guess({**{str(name): float(value) for name, value in row.items()}, **hard}):
            guesses.setdefault(guess, []).append(str(label))
    return [*lines, *(f"No better than {guess}: {', '.join(labels)}." for guess, labels in guesses.items())]


def groups(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs of each heuristic, by its label; of single-institution models, the whole seeds."""
    found = {}
    for key, group in results.groupby(WHICH, dropna=False, sort=False):
        models = group.drop_duplicates(["seed", "site", "held_out"])["seed"].value_counts()
        whole = group[group["seed"].map(models) == len(group.drop_duplicates(["site", "held_out"]))]
        if not whole.empty:
            found[label_of(key, results)] = whole
    return found
