"""Who is where: the site of every patient, and the part of the site's data that the patient belongs to.

The table has the columns ``image, patient, site, split, label``, one row an image. It is written into the run's folder
as ``splits.csv`` and can be read again, so that another run sees the same images in the same places.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lit_dist.datamodules.label_table import read_table, refuse_repeats
from lit_dist.datamodules.partition import EqualPartition, Partition, allot
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import check_kind, replacing
from lit_dist.utils.errors import InputError

COLUMNS = ["image", "patient", "site", "split", "label"]
SPLITS = ["train", "val", "test"]
NUMBER = "number of the patient"
"""The column that ``number_patients`` adds; its name is one that no collection's own column has."""
CONTENT = "number of the content"
"""The column by which images are copies of each other, where there are any."""


def assign_sites(
    table: pd.DataFrame, sites: Sequence[str], partition: Partition, seed: int, task: Task | None = None
) -> pd.DataFrame:
    """Add the column ``site``, dealt out by patient; patients that the partition leaves out are dropped.

    A patient's stratum is the highest one of the patient's images; of classes it is the label. Images
    that the column ``held_out`` marks are dealt out by themselves, equally.

    Args:
        table: One row an image, with the columns ``patient`` and ``label``, and ``held_out`` if there is one.
        sites: The names of the sites.
        partition: Deals the patients out.
        seed: The only source of chance.
        task: What the labels are of; classes by default.
    """
    if "held_out" in table and table["held_out"].any():
        held_out = table["held_out"]
        parts = (table[~held_out], partition), (table[held_out], EqualPartition())
        return pd.concat([_dealt(part, sites, how, seed, task) for part, how in parts if len(part)], ignore_index=True)
    return _dealt(table, sites, partition, seed, task)


def _dealt(
    table: pd.DataFrame, sites: Sequence[str], partition: Partition, seed: int, task: Task | None
) -> pd.DataFrame:
    patient, labels = _patients(_numbers(table), _strata(table["label"], task))
    site = partition.assign(labels, sites, np.random.default_rng([seed, 0]))[patient]
    return table.assign(site=np.array(sites, object)[site])[site >= 0].reset_index(drop=True)


def _strata(labels: "pd.Series[Any]", task: Task | None) -> NDArray[np.int64]:
    return (task or Classification()).strata(labels.to_numpy())


def number_patients(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``NUMBER``, so that the other functions need not sort the patients' names again.

    Patients that have copies of one image count as one.
    """
    numbers = _numbers(table)
    return table.assign(**{NUMBER: _joined(numbers, table[CONTENT]) if CONTENT in table else numbers})


def _joined(numbers: NDArray[np.int64], contents: "pd.Series[int]") -> NDArray[np.int64]:
    """The least number of the patients that copies hold together, for each row."""
    least = np.arange(numbers.max(initial=-1) + 1)

    def root(number: int) -> int:
        while least[number] != number:
            number = int(least[number])
        return number

    repeated = contents.duplicated(keep=False).to_numpy()
    first: dict[int, int] = {}
    for number, content in zip(numbers[repeated].tolist(), contents[repeated].tolist(), strict=True):
        ends = root(number), root(first.setdefault(content, number))
        least[max(ends)] = min(ends)
    return np.array([root(number) for number in range(len(least))], np.int64)[numbers]


def _numbers(table: pd.DataFrame) -> NDArray[np.int64]:
    """The number of each row's patient, in the order of their names."""
    if NUMBER in table:
        return table[NUMBER].to_numpy(np.int64)
    texts = table["patient"].dtype == "str" and not table["patient"].hasnans
    patient, names = pd.factorize(table["patient"], sort=not texts, use_na_sentinel=False)
    if not texts:
        return patient
    number = np.empty(len(names), np.int64)  # Python sorts texts several times faster than pandas
    number[sorted(range(len(names)), key=names.tolist().__getitem__)] = np.arange(len(names))
    return number[patient]


def _patients(numbers: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of each row's patient among those that are there, by their numbers, and the highest label of each."""
    present, patient = np.unique(numbers, return_inverse=True)
    highest = np.full(len(present), np.iinfo(np.int64).min)
    np.maximum.at(highest, patient, labels)
    return patient, highest


def assign_splits(
    table: pd.DataFrame, val_fraction: float, test_fraction: float, seed: int, task: Task | None = None
) -> pd.DataFrame:
    """Add the column ``split``: in each site, patients are dealt out to training, validation and test.

    A site's split depends on its own patients alone, so a hospital can draw it without knowing the others. Where the
    column ``held_out`` marks a test set, that is the test, and ``test_fraction`` has no effect.

    Args:
        table: One row an image, with the columns ``patient``, ``site`` and ``label``, and ``held_out`` if there is one.
        val_fraction: The share of a site's patients for validation.
        test_fraction: That for the test.
        seed: The only source of chance.
        task: What the labels are of; classes by default.
    """
    if "held_out" in table:
        rest = assign_splits(table[~table["held_out"]].drop(columns="held_out"), val_fraction, 0.0, seed, task)
        return pd.concat([rest, table[table["held_out"]].assign(split="test")], ignore_index=True)
    split = np.full(len(table), "", object)
    shares = [1 - val_fraction - test_fraction, val_fraction, test_fraction]
    numbers = _numbers(table)
    for rows in table.groupby("site", sort=False).indices.values():
        patient, highest = _patients(numbers[rows], _strata(table["label"].iloc[rows], task))
        bins = allot(highest, shares, np.random.default_rng([seed, 1]))
        split[rows] = np.array(SPLITS, object)[bins[patient]]
    return table.assign(split=split)


def in_order(sites: Iterable[str], known: Iterable[str]) -> list[str]:
    """Bring the sites of a table that was read into the order that they had when it was drawn.

    Args:
        sites: Their names.
        known: The names of real sites, in the collection's order. Others are in the order of the numbers in them.

    Example:
        >>> in_order(["site-10", "site-2", "b", "a"], ["b", "a"])
        ['b', 'a', 'site-2', 'site-10']
    """
    place = {site: number for number, site in enumerate(known)}
    return sorted(sites, key=lambda site: (place.get(site, len(place)), _numbers_in(site)))


def _numbers_in(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def check_splits(table: pd.DataFrame, origin: str) -> None:
    """Raise ``InputError`` if a patient is at two sites or in two splits, or a split has another name than those known.

    Args:
        table: With the columns of ``COLUMNS``.
        origin: What to call the table in the message.
    """
    unknown = sorted(set(table["split"].unique()) - set(SPLITS))
    if unknown:
        raise InputError(f"{origin}: {unknown[0]!r} is not a split; they are {', '.join(SPLITS)}")
    owner = pd.factorize(table[NUMBER if NUMBER in table else "patient"], use_na_sentinel=False)[0]
    for column in ("site", "split"):
        place = pd.factorize(table[column])[0]
        home = np.empty(len(table), np.int64)
        home[owner] = place  # one of the patient's places
        torn = table["patient"][place != home[owner]]
        for patient in sorted(torn.unique())[:1]:
            places = ", ".join(sorted(set(table.loc[table["patient"] == patient, column])))
            raise InputError(f"{origin}: patient {patient!r} is in more than one {column}: {places}")


def check_copies(table: pd.DataFrame) -> None:
    """Raise ``InputError`` if images of one ``CONTENT``, if the table has that, are at two sites or in two splits."""
    if CONTENT not in table:
        return
    for column in ("site", "split"):
        places = table.groupby(CONTENT)[column].transform("nunique")
        torn = table[places > 1]
        if len(torn):
            one = torn[torn[CONTENT] == torn[CONTENT].iloc[0]].drop_duplicates(column)
            told = " and ".join(f"{image} ({place})" for image, place in zip(one["image"], one[column], strict=True))
            raise InputError(
                f"the same image, byte for byte, is in more than one {column}: {told}"
                f" ({torn[CONTENT].nunique()} such images); remove all but one, or set on_duplicate=drop, which keeps"
                " the first"
            )


def write_splits(table: pd.DataFrame, path: Path) -> None:
    """Write the table."""
    check_kind(path)
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")  # what pandas writes, in a third of its time
        writer.writerow(COLUMNS)
        writer.writerows(zip(*(table[column].tolist() for column in COLUMNS), strict=True))
        text.detach()  # the file is closed by who has opened it


def read_splits(path: Path, table: pd.DataFrame, task: Task | None = None) -> pd.DataFrame:
    """Read a table that ``write_splits`` wrote, and match it with the images and labels of now.

    Args:
        path: The file.
        table: The images of now, with the columns ``image``, ``patient`` and ``label``.
        task: What the labels are of; classes by default.

    Returns:
        The rows of ``table`` that the file names, with the file's ``site`` and ``split``, in the file's order.

    Raises:
        InputError: If the file names an image twice, one that is not there, or one with another label or patient, or if
            it puts a patient in two places.
    """
    splits = read_table(path, COLUMNS)[COLUMNS].rename(columns={"label": "written", "patient": "owner"})
    refuse_repeats(splits, "image", path)
    merged = splits.merge(table.drop(columns=["site", "split"], errors="ignore"), on="image", how="left")
    for column, written in (("label", "written"), ("patient", "owner")):
        gone = merged[merged[column].isna()]
        if len(gone):
            raise InputError(
                f"{path}: there is no record {gone['image'].iloc[0]!r} in the data ({len(gone)} are missing)"
            )
        kind: Any = table["label"].dtype if column == "label" else "str"  # a row that is not there makes it float
        as_text = merged[column].astype(kind).astype(str)
        changed = merged[as_text != merged[written]]
        if len(changed):
            image, was = changed["image"].iloc[0], changed[written].iloc[0]
            raise InputError(f"{path}: record {image!r} has the {column} {was!r} there, but another one in the data")
    merged["label"] = merged["label"].astype(table["label"].dtype)
    result = merged.drop(columns=["written", "owner"])
    check_splits(result, str(path))
    return result
