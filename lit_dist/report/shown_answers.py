"""A report's tables of operating points and calibration."""

from collections.abc import Callable

import pandas as pd

from lit_dist.report.html_table import escaped, folded, number, table, with_span
from lit_dist.report.operating_points import RATES
from lit_dist.report.tables import Tables

_TITLES = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}


def answers_section(tables: Tables) -> str:
    """Operating points and calibration as HTML, with their headings; nothing of a task that asks no questions."""
    if tables.calibration.empty:
        return ""
    headed = ("At a threshold that validation chose", _points(tables)), ("Calibration", _calibration(tables))
    return "\n".join(f"<h2>{title}</h2>\n{content}" for title, content in headed)


def _points(tables: Tables) -> str:
    parts = [_by_question(tables.points, _shown_points)] if len(tables.points) else []
    said = (
        f"Each run has a threshold of its own, chosen {tables.wanted}, never on test records; shown is the mean. The"
        " 95 % intervals are over seeds and patients; where all or none of the records are right, they are exact"
        " binomial ones of as many patients. PPV and NPV are those of the share of such records in this test."
    )
    if left := _of_one_kind(tables):
        said += f" Not shown, since all validation records of a run are of one kind: {', '.join(map(escaped, left))}."
    if tables.without_thresholds:
        names = ", ".join(map(escaped, tables.without_thresholds))
        said += (
            f" Not shown, since an earlier release kept no predictions of validation records: {names}; do their runs"
            " again in a new folder to see them."
        )
    return "\n".join([*parts, f"<p>{said}</p>"])


def _of_one_kind(tables: Tables) -> list[str]:
    """The heuristics without a threshold, and of several questions those, though their validation records are known."""
    keys = ["label", "question"]
    asked = tables.calibration[keys].drop_duplicates()
    shown = set(map(tuple, tables.points[keys].to_numpy())) if len(tables.points) else set()
    several = asked["question"].nunique() > 1
    return [
        f"{label} ({question})" if several else label
        for label, question in map(tuple, asked.to_numpy())
        if (label, question) not in shown and label not in tables.without_thresholds
    ]


def _calibration(tables: Tables) -> str:
    return _by_question(tables.calibration, _shown_calibration) + (
        "\n<p>The Brier score is the mean squared difference of the predicted chance and of what is so (1 or 0). The"
        " calibration error is the mean difference of the predicted"
        " chance and of the share that is so, over bins of as many records (up to 10, of 20 at least). <em>By"
        " chance</em> is the error that chances which are exactly right would have on so many records: what is near it"
        " is no miscalibration that this test can show.</p>"
    )


def _by_question(rows: pd.DataFrame, show: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    """A table a question; of several, all but the first folded."""
    parts = []
    for place, (question, own) in enumerate(rows.groupby("question", sort=False)):
        first = own.iloc[0]
        title = f"{question}: {first['positive']} of {first['n']} test records"
        shown = table(show(own))
        parts.append(folded(title, shown) if place else f"<p><strong>{escaped(title)}</strong></p>{shown}")
    return "\n".join(parts)


def _shown_points(rows: pd.DataFrame) -> pd.DataFrame:
    columns = {"heuristic": rows["label"].map(escaped), "threshold": rows["threshold"].map(number)}
    for rate in RATES:
        columns[_TITLES[rate]] = _with_interval(rows, rate)
    return pd.DataFrame(columns)


def _shown_calibration(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "heuristic": rows["label"].map(escaped),
            "Brier score": _with_interval(rows, "brier"),
            "calibration error": rows["calibration_error"].map(number),
            "by chance": rows["by_chance"].map(number),
        }
    )


def _with_interval(rows: pd.DataFrame, name: str) -> "pd.Series[str]":
    values = zip(rows[name], rows[f"{name}_low"], rows[f"{name}_high"], strict=True)
    cells = [with_span(number(value), low, high) for value, low, high in values]
    return pd.Series(cells, rows.index, dtype=str)
