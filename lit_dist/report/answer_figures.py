"""Figures of a task's questions of yes and no: curves with bands, calibration, and what is taken for what."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lit_dist.report.drawing import cut, folded, legend, narrow, set_height
from lit_dist.report.main_heuristics import best_of
from lit_dist.report.summary import baseline
from lit_dist.report.tables import Tables

_MOST_PANELS = 9
_MOST_CLASSES = 12
_BANDS = "Bands: 95 % intervals over seeds and patients"


def roc(axes: Axes, tables: Tables) -> str | None:
    """The ROC curves of the main heuristics, each in a panel; of several questions, each question in a panel."""
    return _curves(axes, tables, "roc", "1 - specificity", "sensitivity")


def precision_recall(axes: Axes, tables: Tables) -> str | None:
    """The precision-recall curves, in panels as those of ``roc``."""
    return _curves(axes, tables, "precision_recall", "recall (sensitivity)", "precision (PPV)")


def _curves(axes: Axes, tables: Tables, curve: str, across: str, up: str) -> str | None:
    rows = tables.curves[tables.curves["curve"] == curve]
    area = {"roc": "AUROC", "precision_recall": "average precision"}[curve]

    def line(here: Axes, own: pd.DataFrame, label: str, alone: bool) -> None:
        look = tables.looks[label]
        here.plot(own["x"], own["y"], linewidth=1.3, label=folded(label), **look.line)
        here.fill_between(own["x"], own["low"], own["high"], color=look.colour, alpha=0.2, linewidth=0)
        if alone:
            here.set_title(f"{_titled(label, here)}\n{area} {own['area'].iloc[0]:.3f}", fontsize=7)
            _operating_point(here, tables, label, str(own["question"].iloc[0]), curve)

    def guess(here: Axes, own: pd.DataFrame) -> None:
        share = own["positive"].iloc[0]
        here.plot([0, 1], [0, 1] if curve == "roc" else [share, share], ":", color="grey", linewidth=0.8)

    caption = _in_panels(axes, tables, rows, line, guess, across, up)
    if caption is None:
        return None
    dotted = "a guess" if curve == "roc" else "the share of records that are"
    crossed = len(tables.points) and rows["question"].nunique() == 1
    point = " Cross: the threshold that validation chose." if crossed else ""
    return f"{caption} {_BANDS}; dotted: {dotted}.{point}"


def _operating_point(axes: Axes, tables: Tables, label: str, question: str, curve: str) -> None:
    rows = tables.points[(tables.points["label"] == label) & (tables.points["question"] == question)]
    for row in rows.to_dict("records"):
        place = (1 - row["specificity"], row["sensitivity"]) if curve == "roc" else (row["sensitivity"], row["ppv"])
        axes.plot(*place, "x", color=tables.looks[label].colour, markersize=6, markeredgewidth=1.5)


def calibration(axes: Axes, tables: Tables) -> str | None:
    """What is so by what is predicted, in panels as those of ``roc``."""

    def line(here: Axes, own: pd.DataFrame, label: str, alone: bool) -> None:
        look = tables.looks[label]
        own = own.sort_values("predicted")
        ends = (own["observed"] - own["low"]).clip(lower=0), (own["high"] - own["observed"]).clip(lower=0)
        here.errorbar(
            own["predicted"], own["observed"], ends, color=look.colour, linestyle=look.dashes, marker=look.marker,
            markersize=3, linewidth=1, label=folded(label),
        )  # fmt: skip
        if alone:
            known = tables.calibration[tables.calibration["label"] == label].iloc[0]
            error = f"error {known['calibration_error']:.3f} (by chance {known['by_chance']:.3f})"
            here.set_title(f"{_titled(label, here)}\n{error}", fontsize=7)

    def guess(here: Axes, own: pd.DataFrame) -> None:
        here.plot([0, 1], [0, 1], ":", color="grey", linewidth=0.8)

    caption = _in_panels(axes, tables, tables.bins, line, guess, "predicted chance", "share that is so")
    bars = "Bins of as many predictions of all runs; bars: 95 % intervals over seeds and patients"
    return caption and f"{caption} {bars}; dotted: chances that are exactly right."


_Line = Callable[[Axes, pd.DataFrame, str, bool], None]


def _in_panels(
    axes: Axes, tables: Tables, rows: pd.DataFrame, line: _Line, guess: Callable[[Axes, pd.DataFrame], None],
    across: str, up: str,
) -> str | None:  # fmt: skip
    """Draw each heuristic in a panel, with central in grey; of several questions, each question in a panel."""
    if rows.empty:
        return None
    questions, labels = rows["question"].unique().tolist(), rows["label"].unique().tolist()
    central = baseline(tables.runs)
    if len(questions) == 1:
        panels = grid(axes, len(labels))
        for here, label in zip(panels, labels, strict=True):
            own = rows[rows["label"] == label]
            guess(here, own)
            if label != central and central in labels:
                other = rows[rows["label"] == central].sort_values("x" if "x" in rows else "predicted")
                x, y = ("x", "y") if "x" in rows else ("predicted", "observed")
                here.plot(other[x], other[y], color="grey", linewidth=0.8, linestyle="--")
            line(here, own, label, True)
        caption = f"{questions[0]}; dashed and grey: {central}." if central in labels else f"{questions[0]}."
    else:
        few = [
            label
            for label in (central, best_of([x for x in labels if x != central], tables.summary, tables.task))
            if label
        ]
        panels = grid(axes, min(len(questions), _MOST_PANELS))
        for here, question in zip(panels, questions, strict=False):
            own = rows[rows["question"] == question]
            guess(here, own)
            for label in few:
                if len(part := own[own["label"] == label]):
                    line(here, part, label, False)
            here.set_title(_titled(question, here), fontsize=7)
        legend(panels[0])
        left = len(questions) - len(panels)
        more = f"; {left} more are in the table" if left > 0 else ""
        caption = f"In each panel a class against the rest, a grade and higher ones, or a finding{more}."
    for here in panels:
        here.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        here.set_box_aspect(1)
    _name_axes(panels, across, up)
    return caption


def grid(axes: Axes, number: int) -> list[Axes]:
    """Square axes beside and below each other, in place of the given ones."""
    figure: Any = axes.figure
    columns = min(number, 2 if narrow(axes) else 3)
    rows = -(-number // columns)
    set_height(axes, 0.7 + rows * min(figure.get_figwidth() / columns + 0.1, 3.2))
    inside: Any = axes.get_subplotspec()
    axes.remove()
    spec = inside.subgridspec(rows, columns)
    return [figure.add_subplot(spec[place // columns, place % columns]) for place in range(number)]


def _titled(label: str, here: Axes) -> str:
    """A label that is no wider than its panel."""
    return cut(label, 22 if narrow(here) else 28)


def _name_axes(panels: list[Axes], across: str, up: str) -> None:
    """Name the axes of the panels at the left and at the bottom."""
    columns = 2 if narrow(panels[0]) else 3
    for place, here in enumerate(panels):
        if place + columns >= len(panels):
            here.set_xlabel(across)
        if place % columns == 0:
            here.set_ylabel(up)


def confusion(axes: Axes, tables: Tables) -> str | None:
    """What records of each class are taken for by the main heuristics, each in a panel."""
    rows = tables.confusion[tables.confusion["label"].isin(tables.main)]
    classes = rows["true"].unique().tolist()
    if rows.empty or len(classes) > _MOST_CLASSES:
        return None
    labels = rows["label"].unique().tolist()
    panels = grid(axes, len(labels))
    small = len(classes) > (3 if narrow(panels[0]) else 4)
    for here, label in zip(panels, labels, strict=True):
        counts = rows[rows["label"] == label].pivot(index="true", columns="predicted", values="count")
        counts = counts.loc[classes, classes].to_numpy(float)
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
        here.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            text = f"{100 * share:.0f}" if small else f"{100 * share:.0f} %\n{counts[row, column]:.0f}"
            here.text(
                column, row, text, ha="center", va="center", fontsize=6, color="white" if share > 0.55 else "black"
            )
        names = [cut(name, 9) for name in classes]
        here.set_xticks(range(len(names)), names, rotation=45 if small or max(map(len, names)) > 4 else 0)
        here.set_yticks(range(len(names)), names)
        here.set_title(_titled(label, here), fontsize=7)
    _name_axes(panels, "predicted", "true")
    counted = "" if small else " and the numbers of records"
    return (
        "The most likely class, of the test records of all seeds (and sites' models): per cent of the true class"
        f"{counted}. All counts are in confusion.csv."
    )
