"""A report's Table 1, and the flow of its records."""

from pathlib import Path

import pandas as pd

from lit_dist.report.html_table import escaped, table
from lit_dist.study.continued import FLOW, TABLE_1
from lit_dist.utils.text_table import read_text_table

_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def records_section(study: Path, held_out: bool = False) -> str:
    """Who the records of a study are of, and which were not used, as HTML; nothing where nobody has written it down.

    Args:
        study: The study's folder.
        held_out: Whether each site was held out in turn.
    """
    if not (study / TABLE_1).is_file() or not (study / FLOW).is_file():
        return ""
    described = read_text_table(study / TABLE_1)
    steps = read_text_table(study / FLOW)
    return (
        f"<h2>Table 1: the records</h2>\n{table(_by_site(described))}\n<h3>From the records found to those used</h3>\n"
        f"{table(_flow(steps))}\n<p>Records (patients) of each part; age and sex are those of patients, each counted"
        " once. Small numbers are shown as they are: the page is for those who have the records."
        + (" Each site was held out in turn, and then all of its records were the test." if held_out else "")
        + "</p>"
    )


def _by_site(rows: pd.DataFrame) -> pd.DataFrame:
    shown = {"site": rows["site"].map(escaped), "all": _pairs(rows, "records", "patients")}
    for split, title in _SPLITS.items():
        shown[title] = _pairs(rows, f"{split}_records", f"{split}_patients")
    known = {"site", "records", "patients", "age_mean", "age_sd"}
    for column in rows:
        if column not in known and not str(column).startswith(tuple(_SPLITS)):
            shown[escaped(str(column).replace("sex_", "sex: "))] = rows[column].map(escaped)
    if "age_mean" in rows:
        ages = zip(rows["age_mean"], rows["age_sd"], strict=True)
        shown["age (sd)"] = pd.Series([f"{mean} ({sd})" if mean else "" for mean, sd in ages], rows.index)
    return pd.DataFrame(shown)


def _pairs(rows: pd.DataFrame, first: str, second: str) -> "pd.Series[str]":
    return rows[first] + " (" + rows[second] + ")"


def _flow(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "": rows["step"].map(lambda step: escaped(_SPLITS.get(step, step))),
            "records": rows["records"],
            "patients": rows["patients"],
        }
    )
