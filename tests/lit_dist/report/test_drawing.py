"""How names are drawn and set, however long they are."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lit_dist.report.answer_figures import confusion
from lit_dist.report.comparison import heuristics
from lit_dist.report.drawing import ONE_COLUMN, TWO_COLUMNS, cut, heat
from lit_dist.report.html_table import table
from lit_dist.report.results import columns
from lit_dist.report.tables import Tables
from lit_dist.tasks.classification import Classification

TASK = Classification(2)


def test_names_that_begin_alike_stay_apart_where_they_are_cut() -> None:
    names = [f"University Hospital {name}" for name in ("Aachen", "Berlin", "Ulm")]
    assert len({cut(name, 12) for name in names}) == 3
    assert max(len(cut(name, 12)) for name in names) == 12


def tables_of(*names: str) -> Tables:
    rows = [{"run": str(n), "heuristic": name, "kind": "callbacks", "seed": 0} for n, name in enumerate(names)]
    results = pd.DataFrame(rows, columns=columns(TASK)).assign(auroc=0.7, accuracy=0.5, majority_rate=0.5)
    ends = {"metric": "auroc", "mean": 0.7, "low": 0.6, "high": 0.8}
    counts = [{"label": name, "true": t, "predicted": p, "count": 5} for name in names for t in "ab" for p in "ab"]
    empty = pd.DataFrame()
    summary = pd.DataFrame([{"label": name, **ends} for name in names])
    return Tables(Path(), results, empty, summary, empty, empty, TASK, main=list(names), confusion=pd.DataFrame(counts))


def test_a_wide_name_leaves_room_for_the_values() -> None:
    figure = Figure(figsize=(ONE_COLUMN, 2.3), layout="constrained")
    axes = figure.add_subplot()
    heuristics(axes, tables_of("W" * 80, "short"))
    figure.draw_without_rendering()
    assert axes.get_position().width > 0.8


def test_a_dollar_above_a_panel_is_a_dollar() -> None:
    figure = Figure(figsize=(TWO_COLUMNS, 2.9))
    confusion(figure.add_subplot(), tables_of("costs $5$"))
    assert figure.axes[0].get_title() == r"costs \$5\$", "escaped once"


@pytest.mark.parametrize("width", [ONE_COLUMN, TWO_COLUMNS])
@pytest.mark.parametrize("sites", [2, 4, 7, 20])
def test_names_beneath_a_heat_map_do_not_overlap(sites: int, width: float) -> None:
    figure = Figure(figsize=(width, 3), layout="constrained")
    axes = figure.add_subplot()
    names = [f"University Hospital {n}" for n in range(sites)]
    rows = [f"{name} of a town with a long name" for name in ("First", "Second", "Third")]
    heat(axes, pd.DataFrame(np.zeros((3, sites)), rows, names), "tested at", "accuracy")
    figure.draw_without_rendering()
    assert axes.get_position().width > 0.3
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert not any(left.x1 > right.x0 for left, right in pairwise(boxes))


def test_a_long_name_in_a_table_may_wrap_and_numbers_may_not() -> None:
    rows = table(pd.DataFrame({"first": ["x" * 30], "an interval": ["-0.752 (-0.658 to -0.841)"]}))
    assert f'<td class="name">{"x" * 30}</td>' in rows
    assert rows.count('class="name"') == 1
