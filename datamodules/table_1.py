"""What a report says of its records first: who they are of, by site, and which were not used."""

from typing import Any

import numpy as np
import pandas as pd

from lit_dist.datamodules.people import AGE, SEX, ages
from lit_dist.datamodules.site_records import SiteRecords
from lit_dist.datamodules.splits import SPLITS
from lit_dist.tasks.task import Task

ALL = "all sites"
_MOST_SEXES = 4


def characteristics(data: SiteRecords) -> pd.DataFrame:
    """Describe the records of each site, and of all together.

    Returns:
        A row a site, and one of ``ALL``: ``site``, ``records``, ``patients``, the same of each split
        (``train_records``, ``train_patients``, ...), what the task's ``summary`` says of all labels, and, where the
        collection's table has them, ``age_mean`` and ``age_sd`` in years, and the number of patients of each sex
        (``sex_<text>``), each person counted once.
    """
    table, task = data.table, data.learning_task
    parts = {site: table[table["site"] == site] for site in data.sites} | {ALL: table}
    sexes = _sexes(table)
    rows = [{"site": site, **_described(part, task, sexes)} for site, part in parts.items()]
    return pd.DataFrame(rows)


def flow(data: SiteRecords) -> pd.DataFrame:
    """Tell what became of the records that were found.

    Returns:
        The columns ``step``, ``records`` and ``patients`` (NaN where they are not known): the records found, those left
        out by reason, those used, and those of each split.
    """
    table, lost = data.table, pd.Series(dtype=np.int64)
    for (_, reason), count in data.left_out_of.items():
        lost[reason] = lost.get(reason, 0) + count
    rows: list[dict[str, Any]] = [{"step": "found", "records": len(table) + int(lost.sum())}]
    rows += [{"step": f"left out: {reason}", "records": int(count)} for reason, count in lost.items() if count]
    parts = {"used": table} | {split: table[table["split"] == split] for split in SPLITS}
    rows += [
        {"step": step, "records": len(part), "patients": part["patient"].nunique()} for step, part in parts.items()
    ]
    return pd.DataFrame(rows, columns=["step", "records", "patients"]).astype({"patients": "Int64"})


def _sexes(table: pd.DataFrame) -> list[str]:
    found = sorted({str(text) for text in table[SEX] if str(text)}) if SEX in table else []
    return found if len(found) <= _MOST_SEXES else []


def _described(table: pd.DataFrame, task: Task, sexes: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"records": len(table), "patients": table["patient"].nunique()}
    for split in SPLITS:
        part = table[table["split"] == split]
        row |= {f"{split}_records": len(part), f"{split}_patients": part["patient"].nunique()}
    row |= task.summary(table["label"].to_numpy())
    people = table.drop_duplicates("patient")
    if AGE in table:
        known = ages(people[AGE])
        known = known[~np.isnan(known)]
        row["age_mean"] = round(float(known.mean()), 1) if len(known) else np.nan
        row["age_sd"] = round(float(known.std(ddof=1)), 1) if len(known) > 1 else np.nan
    return row | {f"sex_{sex}": int((people[SEX] == sex).sum()) for sex in sexes}
