from pathlib import Path

import pandas as pd

from lit_dist.report.shown_answers import answers_section
from lit_dist.report.tables import Tables
from lit_dist.tasks.classification import Classification

EMPTY = pd.DataFrame(columns=["metric"])


def row(label: str, question: str = "class 1") -> dict[str, object]:
    named = {"label": label, "question": question, "n": 9, "positive": 4, "threshold": 0.5}
    values = {f"{name}{end}": 0.5 for name in ("sensitivity", "specificity", "ppv", "npv", "brier") for end in ENDS}
    return {**named, **values, "calibration_error": 0.1, "by_chance": 0.1}


ENDS = ("", "_low", "_high")


def section(points: list[dict[str, object]], judged: list[dict[str, object]], without: list[str]) -> str:
    return answers_section(
        Tables(
            Path(), EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, Classification(2),
            points=pd.DataFrame(points), calibration=pd.DataFrame(judged), without_thresholds=without,
        )
    )  # fmt: skip


def test_a_heuristic_without_a_threshold_is_named_with_the_reason() -> None:
    found = section([row("central")], [row("central"), row("<single>"), row("old")], ["old"])
    assert "since all validation records of a run are of one kind: &lt;single&gt;." in found
    assert "validation records: old;" in found
    several = section([row("a", "x")], [row("a", "x"), row("a", "y")], [])
    assert "of one kind: a (y)." in several
    assert "of one kind" not in section([row("central")], [row("central")], [])
