"""Figures of a task of values: where models predict too high and where too low, by the value and by site."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lit_dist.report.drawing import heat, legend, set_height, shown
from lit_dist.report.looks import in_order
from lit_dist.report.tables import Tables
from lit_dist.study.execute import PREDICTIONS, read_predictions, scored

_PARTS = 8  # of the values, each with as many records


def residuals(tables: Tables) -> pd.DataFrame:
    """Each prediction of the tests: ``heuristic``, ``site``, ``value``, and ``residual``, what is predicted less it.

    Without rows where the task has no residuals.
    """
    found = []
    for label, runs in tables.runs.items():
        for run in runs.to_dict("records"):
            rows = read_predictions(tables.task, tables.fit(run["run"]) / PREDICTIONS, run["held_out"])
            scores, targets = scored(tables.task, rows)
            values = tables.task.residuals(scores, targets)
            if values is None:
                return pd.DataFrame()
            each = {"heuristic": label, "site": rows["site"], "value": targets.numpy(), "residual": values.numpy()}
            found.append(pd.DataFrame(each))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def residuals_by_value(axes: Axes, tables: Tables) -> str | None:
    """The mean residual of each heuristic in each part of the values."""
    found = residuals(tables)
    if found.empty:
        return None
    edges = np.unique(np.quantile(found["value"], np.linspace(0, 1, _PARTS + 1)[1:-1]))
    parts = np.searchsorted(edges, found["value"], side="right")
    looks = tables.looks
    for label, rows in found.groupby("heuristic", sort=False):
        means = rows.groupby(parts[rows.index])[["value", "residual"]].mean()
        axes.plot(means["value"], means["residual"], marker=".", label=shown(str(label)), **looks[str(label)].line)
    axes.axhline(0, color="grey", linewidth=1)
    axes.set_xlabel("value")
    axes.set_ylabel("mean of prediction - value")
    legend(axes)
    return "Of the test records of all seeds, in parts of as many. A line that falls: predictions lie towards the mean."


def residuals_by_site(axes: Axes, tables: Tables) -> str | None:
    """The mean residual of each heuristic at each site."""
    found = residuals(tables)
    if found.empty:
        return None
    means = found.groupby(["heuristic", "site"], sort=False)["residual"].mean().unstack("site")
    means = means[in_order(means.columns)]
    set_height(axes, 1.2 + 0.25 * len(means))
    most = np.abs(means.to_numpy(float)).max() or 1.0
    heat(axes, means, "tested at", "mean of prediction - value", cmap="PuOr", vmin=-most, vmax=most)
    return "Of the test records of all seeds: above 0, a site's records are predicted too high."
