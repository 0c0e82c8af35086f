"""Table 1 and the flow of records of a packed study: whether they follow from its splits."""

from pathlib import Path

import pandas as pd

from lit_dist.crate.compared_tables import compare
from lit_dist.crate.records import PackedRecords
from lit_dist.datamodules.splits import SPLITS
from lit_dist.datamodules.table_1 import ALL, characteristics, flow
from lit_dist.study.continued import FLOW, TABLE_1
from lit_dist.utils.errors import InputError
from lit_dist.utils.text_table import read_text_table

_LOST = "left out: "


def sites_in_order(crate: Path, known: set[str]) -> list[str]:
    """The sites of a study, in the order of Table 1.

    Raises:
        InputError: If there is no Table 1, or it is one of other sites.
    """
    table = read_text_table(crate / TABLE_1)
    sites = table["site"].tolist() if "site" in table else []
    if sorted(sites[:-1]) != sorted(known) or sites[-1:] != [ALL]:
        raise InputError(f"{crate / TABLE_1} does not have a row of each site of the splits, and then one of {ALL}")
    return sites[:-1]


def check_described(crate: Path, records: PackedRecords, labels: bool) -> None:
    """See that Table 1 and the flow are those of a study's records. Ages, and what was left out, no file tells.

    Args:
        crate: The study's folder.
        records: Its records, as the study has them.
        labels: Whether their labels can be described; not those of a task of the authors' own.

    Raises:
        InputError: If they are not.
    """
    path, stated, again = crate / TABLE_1, read_text_table(crate / TABLE_1), characteristics(records)
    again = again if labels else again[["site", "records", "patients", *_counts()]]
    people = [name for name in map(str, stated) if name in ("age_mean", "age_sd") or name.startswith("sex_")]
    _check_sexes(path, stated, [name for name in people if name.startswith("sex_") and name not in again])
    compare(path, stated[_of(stated, again, people, labels)], again, "the splits", exact=True)
    path, stated, again = crate / FLOW, read_text_table(crate / FLOW), flow(records)
    lost = stated["step"].str.startswith(_LOST)
    if (less := stated.loc[lost & ~stated["records"].str.fullmatch("[1-9][0-9]*"), "step"]).any():
        raise InputError(f"{path}, row {less.index[0] + 1}: {less.iloc[0]!r} has no number of records from 1")
    found = int(again["records"].iloc[0]) + int(stated.loc[lost, "records"].astype(int).sum())
    again["records"] = [found, *again["records"].iloc[1:]]
    compare(path, stated[~lost], again, "the splits and what was left out", exact=True)


def _counts() -> list[str]:
    return [f"{split}_{what}" for split in SPLITS for what in ("records", "patients")]


def _of(stated: pd.DataFrame, again: pd.DataFrame, people: list[str], labels: bool) -> list[str]:
    """The columns of Table 1 that follow from the splits, or should."""
    return [name for name in map(str, stated) if name in again or (labels and name not in people)]


def _check_sexes(path: Path, stated: pd.DataFrame, sexes: list[str]) -> None:
    """See that the people of each sex add up, and are no more than there are patients."""
    counted = stated[sexes].astype(int)
    for name in sexes:
        if counted[name].iloc[:-1].sum() != counted[name].iloc[-1]:
            raise InputError(
                f"{path}, row {len(stated)}: {name} is {counted[name].iloc[-1]}, and not the sum of the sites"
            )
    for row, (found, patients) in enumerate(zip(counted.sum(axis=1), stated["patients"].astype(int), strict=True), 1):
        if found > patients:
            raise InputError(f"{path}, row {row}: it has {found} people of a sex among {patients} patients")
