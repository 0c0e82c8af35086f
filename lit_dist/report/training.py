"""The figure of training: how the validation loss falls, and which site is visited meanwhile."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.provenance.ledger import iter_entries
from lit_dist.report.drawing import cut, legend, panels, set_height, shown
from lit_dist.report.looks import Look, in_order
from lit_dist.report.tables import Tables

_MOST = 3
"""How many ways through the sites are drawn."""

_FEW = 4
"""Of more runs, their range is drawn instead of a line for each."""

_NAMED_WIDE = 4
"""Up to how many sites have their names in the usual size."""

_STEEP = 20
"""From which ratio of its ends on the loss is drawn on a logarithmic scale."""

Visits = list[tuple[str, int, int]]
"""Of each visit the site, its first step, and the number of its steps."""


def curves(axes: Axes, tables: Tables) -> str | None:
    """The validation loss of central and of the transfers over all seeds; beneath it, which site is visited."""
    looks = tables.looks
    lines: dict[str, list[pd.Series]] = {}
    paths: dict[str, Visits] = {}
    for label, runs in tables.runs.items():
        if runs["kind"].iloc[0] in ("single", "ensemble"):
            continue
        found = [_losses(tables.fit(run) / "metrics.csv") for run in runs["run"]]
        if found := [each for each in found if len(each)]:
            lines[label] = found
            visits = _visits(tables.fit(runs["run"].iloc[0]) / LEDGER)
            if visits and visits not in paths.values():
                paths[label] = visits
    if not lines:
        return None
    sites = in_order({site for visits in paths.values() for site, _, _ in visits})
    height = max(0.4, (0.13 if len(sites) <= _NAMED_WIDE else 0.09) * min(len(sites), 40)) if sites else 0.0
    set_height(axes, 2.7 + height)
    upper, *lower = panels(axes, [2.2, height] if sites else [1])
    for label, each in lines.items():
        _draw(upper, shown(label), looks[label], each)
    _scale(upper, [loss for each in lines.values() for loss in each])
    upper.set_ylabel("validation loss, all sites")
    (lower or [upper])[-1].set_xlabel("optimizer steps")
    legend(upper)
    most = max(map(len, lines.values()))
    seeds = "bands: from the least to the most of them" if most > _FEW else "thin: each seed"
    caption = f"Lines: means over seeds, as long as all of them go on; {seeds}." if most > 1 else "One seed."
    for below in lower:
        below.sharex(upper)
        upper.tick_params(labelbottom=False)
        _draw_visits(below, [(looks[label], paths[label]) for label in list(paths)[:_MOST]], sites)
        first = ", ".join(list(paths)[:_MOST])
        caption += f" Below, the visits of {first} (first seed), each in its colour beside its site."
    return caption


def _losses(path: Path) -> pd.Series:
    """A run's validation losses by the optimizer's steps; empty where a module of one's own logs none."""
    table = pd.read_csv(path, usecols=lambda name: name in ("step", "val_loss")).dropna()
    if "val_loss" not in table:
        return pd.Series(dtype=float)
    return table.groupby("step")["val_loss"].last().replace([np.inf, -np.inf], np.nan).dropna()


def _visits(ledger: Path) -> Visits:
    found: Visits = []
    step, run = 0, ""
    for entry in iter_entries(ledger) if ledger.exists() else ():
        if entry.run != run:  # one that was killed before its first checkpoint was begun anew
            found, step, run = [], 0, entry.run
        if entry.outcome != "cut short":
            found.append((entry.site, step, entry.steps))
            step += entry.steps
    return found


def _draw(axes: Axes, label: str, look: Look, losses: list[pd.Series]) -> None:
    if len(losses) == 1:
        axes.plot(losses[0].index, losses[0], marker=".", markersize=3, linewidth=1.2, label=label, **look.line)
        return
    steps = np.unique(np.concatenate([each.index for each in losses]))
    values = [np.interp(steps, each.index, each, left=np.nan, right=np.nan) for each in losses]
    if len(losses) > _FEW:
        ends = np.min(values, axis=0), np.max(values, axis=0)
        axes.fill_between(steps, *ends, color=look.colour, alpha=0.12, linewidth=0)
    else:
        for each in losses:
            axes.plot(each.index, each, linewidth=0.5, alpha=0.4, **look.line)
    # NaN where a seed is not there yet, or ended before
    mark = "." if max(map(len, losses)) < 2 else ""  # one validation makes no line
    axes.plot(steps, np.mean(values, axis=0), linewidth=1.5, label=label, marker=mark, **look.line)


def _scale(axes: Axes, losses: list[pd.Series]) -> None:
    low, high = min(each.min() for each in losses), max(each.max() for each in losses)
    if 0 < low < high / _STEEP:
        axes.set_yscale("log")


def _draw_visits(axes: Axes, paths: list[tuple[Look, Visits]], sites: list[str]) -> None:
    """A row a site, from the top down, in which each way through the sites has a lane."""
    lane = 0.8 / len(paths)
    for number, (look, visits) in enumerate(paths):
        for row, site in enumerate(sites):
            spans = [(start, steps) for name, start, steps in visits if name == site]
            axes.broken_barh(spans, (row - 0.4 + number * lane, lane), facecolors=look.colour, linewidth=0)
    every = -(-len(sites) // 40)
    axes.set_yticks(range(0, len(sites), every), [cut(site) for site in sites[::every]])
    axes.tick_params(axis="y", labelsize=5 if len(sites) > _NAMED_WIDE else 7, length=0)
    axes.set_ylim(len(sites) - 0.5, -0.5)
