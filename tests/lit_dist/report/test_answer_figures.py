"""Figures and tables of what a task asks of each record."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lit_dist.report.figures import draw
from lit_dist.report.shown_answers import answers_section
from lit_dist.report.tables import Tables, make_tables
from lit_dist.study.execute import RESULT, judged, read_predictions
from lit_dist.study.run import Run
from lit_dist.tasks.multilabel import MultiLabel
from lit_dist.tasks.named import named_task
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.task import Task


def tables_of(task: Task, kinds: dict[str, str], validated: bool = True) -> Tables:
    """The tables of a study of one seed, with predictions that know something."""
    chance = np.random.default_rng(0)
    runs = []
    for name, kind in kinds.items():
        folder = Path("runs", name, "fit")
        folder.mkdir(parents=True)
        for file, records in (("predictions", 60), ("validation_predictions", 30 if validated else 0)):
            if records:
                predictions_of(task, chance, records).to_csv(folder / f"{file}.csv", index=False)
        found = judged(task, read_predictions(task, folder / "predictions.csv"))
        (folder.parent / RESULT).write_text(json.dumps(found))
        runs.append(Run(name, kind, 0, 1, {}))
    tables = make_tables(Path(), runs, "c", task)
    assert tables is not None
    return tables


def predictions_of(task: Task, chance: np.random.Generator, records: int) -> pd.DataFrame:
    labels: list[Any] = [n % max(task.outputs, 2) for n in range(records)]
    values = chance.random((records, task.outputs))
    if isinstance(task, MultiLabel):
        labels = ["".join("01"[(n + k) % 3 == 0] for k in range(task.outputs)) for n in range(records)]
    elif task.outputs > 1:
        values[np.arange(records), labels] += 0.5
        values /= values.sum(axis=1, keepdims=True)
    names = {column: values[:, n] for n, column in enumerate(task.columns)}
    people = [f"p{n}" for n in range(records)]
    return pd.DataFrame({"site": "s", "image": people, "patient": people, "label": labels, **names})


KINDS = {"a": "central", "b": "cyclical_weight_transfer", "c": "ensemble"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "panels"), [("classification", 2, 3), ("ordinal", 4, 3), ("multilabel", 12, 9)]
)
def test_there_is_a_panel_for_each_heuristic_or_for_each_question(name: Any, classes: int, panels: int) -> None:
    tables = tables_of(named_task(name, classes), KINDS)
    for figure in ("roc", "precision_recall", "calibration"):
        drawn = draw(figure, tables)
        assert drawn is not None
        assert len(drawn.wide.axes) == len(drawn.narrow.axes) == panels
        assert ("Cross" in drawn.caption) is (classes == 2 and figure != "calibration")
    drawn = draw("confusion", tables)
    assert (drawn is None) is (name == "multilabel")
    if drawn is not None:
        assert "100 %" not in drawn.caption
    assert list(tables.points["question"].unique()) == list(tables.calibration["question"].unique())


def test_the_cross_lies_where_the_table_says() -> None:
    tables = tables_of(named_task("classification", 2), KINDS)
    drawn = draw("roc", tables)
    assert drawn is not None
    row = tables.points.set_index("label").loc["ensemble"]
    crosses = [line for line in drawn.wide.axes[2].lines if line.get_marker() == "x"]
    assert crosses[0].get_xydata()[0].tolist() == pytest.approx([1 - row["specificity"], row["sensitivity"]])


@pytest.mark.slow
def test_what_is_missing_of_an_old_study_is_said() -> None:
    tables = tables_of(named_task("classification", 2), KINDS, validated=False)
    text = answers_section(tables)
    assert "kept no predictions of validation records: central, cyclical, ensemble" in text
    assert "Brier score" in text
    assert draw("roc", tables) is not None
    assert "Cross" not in draw("roc", tables).caption  # type: ignore[union-attr]


def test_of_several_questions_all_but_the_first_are_folded() -> None:
    text = answers_section(tables_of(named_task("classification", 3), KINDS))
    assert text.count("<details>") == 2 * 2
    assert "chosen by Youden's index on the validation records" in text


def test_values_ask_no_questions() -> None:
    tables = tables_of(Regression(), KINDS)
    assert answers_section(tables) == ""
    assert "calibration.csv" not in dict(tables.files())
    assert all(draw(name, tables) is None for name in ("roc", "precision_recall", "calibration", "confusion"))
