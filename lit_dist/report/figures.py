"""The figures of a study. Each takes the study's tables and draws on axes of its own; none keeps state."""

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lit_dist.callbacks.site_evaluation import MATRIX
from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.provenance.ledger import iter_entries
from lit_dist.report.drawing import COLOURS, heat, shown
from lit_dist.report.residuals import residuals_by_site, residuals_by_value
from lit_dist.report.summary import groups
from lit_dist.report.tables import Tables
from lit_dist.study.execute import PREDICTIONS, read_predictions, scored
from lit_dist.study.heuristics import OWN
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import replacing

_DASHES = ("-", "--", ":")
"""What tells grey lines from each other."""

_INK = {"light": "#1f2328", "dark": "#e6edf3"}


def heuristics(axes: Axes, tables: Tables, place: int = 0) -> str | None:
    """One of the task's main measures of each heuristic, with its interval, and its seeds as points."""
    if place >= len(tables.task.main):
        return None
    metric = tables.task.main[place]
    measure = tables.task.measures[metric]
    rows = tables.summary[tables.summary["metric"] == metric].dropna(subset="mean").reset_index(drop=True)
    runs = groups(tables.results)
    for place, row in enumerate(rows.to_dict("records")):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(
            [max(row["low"], measure.low), min(row["high"], measure.high)],
            [place, place],
            color=colour,
            linewidth=2,
            alpha=0.5,
        )
        axes.plot(row["mean"], place, "D", color=colour, markersize=8)
        own = runs[row["label"]].groupby("seed")[metric].mean()
        axes.plot(own, np.full(len(own), place), "o", color=colour, markersize=4, alpha=0.7)
    axes.set_yticks(range(len(rows)), [shown(label) for label in rows["label"]])
    axes.invert_yaxis()
    guess = [(measure.chance, "chance")] if measure.chance is not None else []
    if metric == "accuracy" and "majority_rate" in tables.results:
        guess = [(tables.results["majority_rate"].iloc[0], "the commonest class")]
    for value, _ in guess:
        axes.axvline(value, linestyle=":", color="grey")
    dotted = "".join(f" (dotted: {what})" for _, what in guess)
    axes.set_xlabel(f"{measure.title} on the test records of all sites{dotted}")
    return "Diamonds: means over seeds, with the 95 % interval by Student's t; dots: seeds." if len(rows) else None


def curves(axes: Axes, tables: Tables) -> str | None:
    """The validation loss of the first seed's transfers and of central; the visits' sites as a coloured band."""
    drawn, pooled, band = 0, 0, 0
    sites: dict[str, str] = {}
    for label, runs in groups(tables.results).items():
        run = runs.iloc[0]
        if run["kind"] in ("single", "ensemble"):
            continue
        path = tables.fit(run["run"]) / "metrics.csv"
        metrics = pd.read_csv(path, usecols=lambda name: name in ("step", "val_loss")).dropna()
        if "val_loss" not in metrics:  # a module of one's own logs what it likes
            continue
        style: dict[str, Any] = {"color": COLOURS[drawn % len(COLOURS)]}
        if run["kind"] == "central":
            style = {"color": "grey", "linestyle": _DASHES[pooled % len(_DASHES)]}
            pooled += 1
        else:
            drawn += 1
        axes.plot(metrics["step"], metrics["val_loss"], marker=".", label=shown(label), linewidth=1.2, **style)
        ledger = tables.fit(run["run"]) / LEDGER
        if ledger.exists():
            _band(axes, ledger, 1.02 + 0.035 * band, sites)
            band += 1
    if not drawn:
        return None
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("validation loss, all sites")
    axes.legend(frameon=False, fontsize=8)
    key = [Patch(color=colour, label=shown(site)) for site, colour in list(sites.items())[: len(COLOURS)]]
    axes.figure.legend(handles=key, loc="outside lower center", ncols=len(key), frameon=False, fontsize=8)
    return "The bands say which site was being visited, one a transfer, in the legend's order from the bottom up."


def _band(axes: Axes, ledger: Path, height: float, sites: dict[str, str]) -> None:
    step = 0
    for entry in iter_entries(ledger):
        colour = sites.setdefault(entry.site, COLOURS[len(sites) % len(COLOURS)])
        axes.plot(
            [step, step + entry.steps], [height] * 2, color=colour, linewidth=4, solid_capstyle="butt",
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
        step += entry.steps


def frequency(axes: Axes, tables: Tables) -> str | None:
    """The task's first measure of cyclical weight transfer's tests against the length of its visits."""
    measure = tables.task.measures[tables.task.primary]
    rows = tables.summary[tables.summary["metric"] == tables.task.primary]
    cyclical = rows[rows["heuristic"] == "cyclical_weight_transfer"].dropna(subset="every_n_epochs")
    cyclical = cyclical.sort_values("every_n_epochs")
    if cyclical["every_n_epochs"].nunique() < 2:
        return None
    for place, (_, group) in enumerate(cyclical.groupby(["order", "optimizer_state"], sort=False)):
        every = group["every_n_epochs"].astype(float)
        mean, low, high = (group[name].clip(measure.low, measure.high) for name in ("mean", "low", "high"))
        axes.errorbar(every, mean, (mean - low, high - mean), fmt="o-", capsize=4, color=COLOURS[place % len(COLOURS)],
                      label=", ".join(map(str, group[["order", "optimizer_state"]].iloc[0])))  # fmt: skip
    for place, heuristic in enumerate(("central", "ensemble", "single")):
        for mean in rows.loc[rows["heuristic"] == heuristic, "mean"]:
            axes.axhline(mean, linestyle=_DASHES[place], color="grey", linewidth=1, label=heuristic)
    axes.set_xscale("log")
    ticks = sorted(set(cyclical["every_n_epochs"].astype(int)))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("epochs a visit")
    axes.set_ylabel(f"test {measure.title}")
    axes.legend(frameon=False, fontsize=8)
    return "With the 95 % interval over seeds."


def matrix(axes: Axes, tables: Tables) -> str | None:
    """What ``SiteEvaluation`` found on each site's validation images, of the first transfer that goes round."""
    for label, runs in groups(tables.results).items():
        run = runs.iloc[0]
        path = tables.fit(run["run"]) / MATRIX
        if run["kind"] in ("cyclical_weight_transfer", OWN) and path.exists():
            table = pd.read_csv(path, dtype={"site": str}, keep_default_na=False, na_values={"value": [""]})
            values = table.pivot(index="site", columns="visit", values="value")
            heat(axes, values, "after visit", tables.task.measures[tables.task.at_a_site].title)
            return f"{label}, seed {run['seed']}; a dark column is a visit after which the model had forgotten much."
    return None


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
    heat(axes, pd.DataFrame(rows).T, "tested at", task.measures[task.each].title)
    axes.set_ylabel("trained at")
    return f"Seed {single['seed'].iloc[0]}."


def bytes_sent(axes: Axes, tables: Tables) -> str | None:
    """The task's first measure of the tests against the bytes that were sent between sites."""
    primary = tables.task.primary
    for place, (label, runs) in enumerate(groups(tables.results).items()):
        if runs["kind"].iloc[0] in ("central", "single"):
            continue
        axes.plot(
            runs["bytes_sent"].astype(float) / 1e6,
            runs[primary],
            "o",
            color=COLOURS[place % len(COLOURS)],
            label=shown(label),
            alpha=0.8,
        )
    if not axes.lines:
        return None
    axes.set_xscale("log")
    axes.set_xlabel("megabytes of weights sent between sites in training")
    axes.set_ylabel(f"test {tables.task.measures[primary].title}")
    axes.legend(frameon=False, fontsize=8)
    return (
        "Weights and buffers, without the state of the optimizer, which goes with them where the setting is carry."
        " Central sends the images instead, a single institution nothing."
    )


Draw = Callable[[Axes, Tables], str | None]
FIGURES: Mapping[str, tuple[str, Draw]] = {
    "heuristics": ("Test {0}", heuristics),
    "heuristics_2": ("Test {1}", partial(heuristics, place=1)),
    "curves": ("Validation loss", curves),
    "frequency": ("How often the weights move", frequency),
    "site_matrix": ("What is kept and what is forgotten", matrix),
    "transferability": ("Single-institution models elsewhere", transferability),
    "bytes": ("What was sent", bytes_sent),
    "residuals": ("Errors by value", residuals_by_value),
    "residuals_sites": ("Errors by site", residuals_by_site),
}
"""Each figure's title, and what draws it and gives its caption; None if there is nothing to draw."""


def title(name: str, task: Task) -> str:
    """The title of a figure."""
    return FIGURES[name][0].format(*(task.measures[measure].title for measure in task.main), "")


def draw(name: str, tables: Tables) -> tuple[Figure, str] | None:
    """Draw one of ``FIGURES``.

    Returns:
        The figure and its caption; None if there is nothing to draw.
    """
    ink = _INK["light"]
    style: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color"), ink)
    style |= {"ytick.color": ink, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "lit_dist"}
    with rc_context(style):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        caption = FIGURES[name][1](axes, tables)
    if caption is None:
        return None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, and not for each file again
    return figure, caption


def as_svg(figure: Figure) -> dict[str, bytes]:
    """The figure as SVG without ground, for a light and for a dark one; its text is text."""
    file = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lit_dist"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    light = file.getvalue()
    return {"light": light, "dark": light.replace(_INK["light"].encode(), _INK["dark"].encode())}


def write_figures(tables: Tables, folder: Path) -> dict[str, tuple[Figure, str]]:
    """Write each figure as PNG and SVG, on white.

    Returns:
        Those that there are, with their captions.
    """
    figures = {}
    for name in FIGURES:
        drawn = draw(name, tables)
        if drawn is not None:
            figures[name] = drawn
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            if drawn is None:
                path.unlink(missing_ok=True)  # of an earlier plan
                continue
            with replacing(path) as file:
                drawn[0].savefig(file, format=suffix, facecolor="white", dpi=150)
    return figures
