"""Figures that compare the tests of all heuristics: by a measure, by how often weights move, by what is sent."""

import numpy as np
from matplotlib.axes import Axes

from lit_dist.report.drawing import folded, legend, narrow, set_height, shown
from lit_dist.report.tables import Tables


def heuristics(axes: Axes, tables: Tables, place: int = 0) -> str | None:
    """One of the task's main measures of each heuristic, with its interval, and its seeds as points."""
    if place >= len(tables.task.main):
        return None
    metric = tables.task.main[place]
    measure = tables.task.measures[metric]
    rows = tables.summary[tables.summary["metric"] == metric].dropna(subset="mean").to_dict("records")
    if not rows:
        return None
    runs, looks = tables.runs, tables.looks
    for place, row in enumerate(rows):
        colour = looks[row["label"]].colour
        ends = [max(row["low"], measure.low), min(row["high"], measure.high)]
        axes.plot(ends, [place] * 2, color=colour, linewidth=2, alpha=0.5)
        axes.plot(row["mean"], place, "D", color=colour, markersize=6)
        own = runs[row["label"]].groupby("seed")[metric].mean()
        axes.plot(own, np.full(len(own), place), "o", color=colour, markersize=3, alpha=0.7)
    _name_rows(axes, [row["label"] for row in rows])
    guess = [(measure.chance, "chance")] if measure.chance is not None else []
    if metric == "accuracy" and "majority_rate" in tables.results:
        guess = [(tables.results["majority_rate"].iloc[0], "the commonest class")]
    for value, _ in guess:
        axes.axvline(value, linestyle=":", linewidth=0.8, color="grey", zorder=0)
    dotted = "".join(f" (dotted: {what})" for _, what in guess)
    axes.set_xlabel(folded(f"{measure.title} on the test records of all sites{dotted}", 40 if narrow(axes) else 90))
    return "Diamonds: means over seeds, with the 95 % interval over seeds and patients; dots: seeds."


def _name_rows(axes: Axes, labels: list[str]) -> None:
    """Name rows from the top down: at their left, or above them where the figure is narrow."""
    names = [folded(label, 42 if narrow(axes) else 30) for label in labels]
    lines = sum(name.count("\n") + 1 for name in names)
    if narrow(axes):
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        for place, name in enumerate(names):
            text = axes.text(0, place - 0.2, name, va="bottom", transform=axes.get_yaxis_transform())
            text.set_in_layout(False)  # a wide name would leave no room for the values
        set_height(axes, 0.8 + 0.12 * lines + 0.2 * len(names))
        axes.set_ylim(len(names) - 0.6, -1)
    else:
        axes.set_yticks(range(len(names)), names)
        set_height(axes, 0.8 + max(0.14 * lines, 0.26 * len(names)))
        axes.set_ylim(len(names) - 0.5, -0.5)


def frequency(axes: Axes, tables: Tables) -> str | None:
    """The task's first measure of cyclical weight transfer's tests against the length of its visits."""
    measure, looks = tables.task.measures[tables.task.primary], tables.looks
    rows = tables.summary[tables.summary["metric"] == tables.task.primary]
    cyclical = rows[rows["heuristic"] == "cyclical_weight_transfer"].dropna(subset="every_n_epochs")
    cyclical = cyclical.sort_values("every_n_epochs")
    if cyclical["every_n_epochs"].nunique() < 2:
        return None
    for _, group in cyclical.groupby(["order", "optimizer_state"], sort=False):
        every = group["every_n_epochs"].astype(float)
        mean, low, high = (group[name].clip(measure.low, measure.high) for name in ("mean", "low", "high"))
        look = looks[group["label"].iloc[0]]
        axes.errorbar(every, mean, (mean - low, high - mean), capsize=3, marker=look.marker, **look.line,
                      label="cyclical, {}, {}".format(*group[["order", "optimizer_state"]].iloc[0]))  # fmt: skip
    for row in rows[rows["heuristic"].isin(["central", "ensemble", "single"])].to_dict("records"):
        axes.axhline(row["mean"], linewidth=1, label=shown(row["label"]), **looks[row["label"]].line, zorder=0)
    axes.set_xscale("log")
    ticks = sorted(set(cyclical["every_n_epochs"].astype(int)))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("epochs a visit")
    axes.set_ylabel(f"test {measure.title}")
    legend(axes)
    return "With the 95 % interval over seeds and patients."


def bytes_sent(axes: Axes, tables: Tables) -> str | None:
    """The task's first measure of the tests against the bytes that were sent between sites."""
    primary, looks = tables.task.primary, tables.looks
    for label, runs in tables.runs.items():
        if runs["kind"].iloc[0] in ("central", "single"):
            continue
        sent = runs["bytes_sent"].astype(float) / 1e6
        axes.plot(sent, runs[primary], label=shown(label), markersize=4, alpha=0.8, **looks[label].points)
    if not axes.lines:
        return None
    axes.set_xscale("log")
    axes.set_xlabel("megabytes of weights sent between sites in training")
    axes.set_ylabel(f"test {tables.task.measures[primary].title}")
    legend(axes)
    return (
        "Weights and buffers, without the state of the optimizer, which goes with them where the setting is carry."
        " Central sends the images instead, a single institution nothing."
    )
