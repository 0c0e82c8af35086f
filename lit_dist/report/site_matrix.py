"""Figures with a row a site: what each visit does to it, and how models of other sites do there."""

from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lit_dist.callbacks.site_evaluation import MATRIX
from lit_dist.callbacks.site_judge import better_by_name
from lit_dist.report.drawing import heat, narrow, panels, set_height
from lit_dist.report.looks import in_order
from lit_dist.report.tables import Tables
from lit_dist.study.execute import PREDICTIONS, read_predictions, scored
from lit_dist.study.heuristics import OWN
from lit_dist.study.run import read_run, run_path
from lit_dist.utils.errors import InputError


def matrix(axes: Axes, tables: Tables) -> str | None:
    """What ``SiteEvaluation`` found at each site of the first transfer that goes round, and what each visit changed."""
    for label, runs in tables.runs.items():
        run = runs.iloc[0]
        path = tables.fit(run["run"]) / MATRIX
        if run["kind"] not in ("cyclical_weight_transfer", OWN) or not path.exists():
            continue
        table = pd.read_csv(path, dtype={"site": str, "visited": str}, keep_default_na=False, na_values={"value": [""]})
        title, better = _metric(tables, run["run"])
        _draw(axes, table, title, better)
        every = "visit" if table.groupby("cycle")["visit"].nunique().max() > 1 else "cycle"
        last = "" if every == "visit" else ", the last one of the cycle"
        colours = f" Blue is {'higher' if better is None else 'better'}." if table["visit"].nunique() > 1 else ""
        return f"{label}, seed {run['seed']}. Framed or dotted: the site that was visited{last}.{colours}"
    return None


def _draw(axes: Axes, table: pd.DataFrame, title: str, better: str | None) -> None:
    values = table.pivot(index="site", columns="visit", values="value")
    values = values.loc[in_order(values.index)]
    rows = max(1.2, 0.1 * min(len(values), 40) + 0.5)
    several = len(values.columns) > 1
    set_height(axes, 0.5 + rows * (2 if several else 1))
    upper, *lower = panels(axes, [1, 1] if several else [1])
    heat(upper, values, "" if several else "after visit", title)
    for each in lower:
        upper.tick_params(labelbottom=False)
        change = values.diff(axis="columns")
        most = np.nanquantile(change.abs().to_numpy(float), 0.98) if change.notna().any(axis=None) else 0.0
        ends = {"vmin": -(most or 1), "vmax": most or 1, "cmap": "RdBu_r" if better == "min" else "RdBu"}
        heat(each, change, "after visit", "change since the evaluation before", **ends)
    for each in (upper, *lower):
        _mark(each, table, values)


def _mark(axes: Axes, table: pd.DataFrame, values: pd.DataFrame) -> None:
    """Frame the cells of the sites that were visited, or dot them where they are small, and part the cycles."""
    visits = table.drop_duplicates("visit").sort_values("visit")
    cycles = visits["cycle"].tolist()
    rows = {site: row for row, site in enumerate(values.index)}
    column_width = (150 if narrow(axes) else 380) / len(values.columns)  # points, about
    size = min(4.0, column_width / 2)
    for column, site in enumerate(visits["visited"]):
        row = rows.get(site)
        if row is not None and column_width > 16:
            for colour, width in (("white", 2.2), ("black", 1.0)):
                frame = Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, color=colour, linewidth=width)
                axes.add_patch(frame)
        elif row is not None:
            axes.plot(column, row, "o", color="white", markersize=size, markeredgecolor="black", markeredgewidth=0.4)
        if column and len(set(cycles)) < len(cycles) and cycles[column] != cycles[column - 1]:
            axes.axvline(column - 0.5, color="white", linewidth=0.6)


def _metric(tables: Tables, run: str) -> tuple[str, str | None]:
    """The title of what a run's ``SiteEvaluation`` looked at, and whether less of it (min) or more (max) is better."""
    settings: dict[str, Any] = {}
    with suppress(InputError, KeyError, TypeError):
        for each in read_run(run_path(tables.study, run)).config["trainer"]["callbacks"]:
            if each["class_path"].rpartition(".")[2] == "SiteEvaluation":
                settings = each.get("init_args") or {}
    name = settings.get("metric") or tables.task.at_a_site
    measure = tables.task.measures.get(name)
    split = "test" if settings.get("split") == "test" else "validation"
    if measure is None:
        return f"{split} {name}", settings.get("mode") or better_by_name(name)
    return f"{split} {measure.title}", measure.better


def transferability(axes: Axes, tables: Tables) -> str | None:
    """The mean of the task's measure ``each`` of every single-institution model on the test images of each site."""
    task = tables.task
    single = tables.results[tables.results["kind"] == "single"]
    if single.empty or not task.each or single["held_out"].notna().any():
        return None
    single = single[(single[["heuristic", "seed"]] == single[["heuristic", "seed"]].iloc[0]).all(axis=1)]
    rows = {}
    for run in single.to_dict("records"):
        found = read_predictions(task, tables.fit(run["run"]) / PREDICTIONS)
        values = pd.Series(task.of_each(*scored(task, found)).double().numpy())
        rows[run["site"]] = values.groupby(found["site"], sort=False).mean()
    table = pd.DataFrame(rows).T
    table = table.loc[in_order(table.index), in_order(table.columns)]
    set_height(axes, 1.0 + 0.13 * max(8, min(len(table), 40)))
    heat(axes, table, "tested at", task.measures[task.each].title)
    axes.set_ylabel("trained at")
    return f"Seed {single['seed'].iloc[0]}."
