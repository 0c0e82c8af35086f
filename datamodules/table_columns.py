"""Columns of a table as numbers: values, codes of categories, and labels, with errors that name the cell."""

import hashlib
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lit_dist.tasks.regression import number
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

CODES = 2**23
ORIGIN = "file and row of the record"
"""The column with what to begin a message about a record with; no column of a file is called so."""


def numbers(table: pd.DataFrame, column: str, missing: Collection[str]) -> NDArray[np.float32]:
    """A column's values, float32, (records,); NaN where one is missing.

    Raises:
        InputError: If a cell is no number that float32 can hold, or float32 cannot tell the values apart; the message
            names file, row and column.
    """
    texts = table[column].tolist()
    absent = are_missing(texts, missing)
    values = pd.to_numeric(table[column].where(~absent, "nan"), errors="coerce").to_numpy(np.float64)
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = values.astype(np.float32)
    wrong = ~absent & ~np.isfinite(found)
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{table[ORIGIN].iloc[place]}: {column} is {texts[place][:50]!r}, which is no number ({int(wrong.sum())}"
            " such rows): name the column under categorical, leave it out by exclude, or name the text under missing"
        )
    _check_precision(values, found, column)
    return found


def _check_precision(values: NDArray[np.float64], found: NDArray[np.float32], column: str) -> None:
    known = values[~np.isnan(values)]
    spread = known.std() if len(known) else 0.0
    lost = np.abs(known - found[~np.isnan(found)]).max(initial=0)
    if lost > spread / 100 and spread > 1e-12 * np.abs(known).max(initial=0):  # below is noise in one value
        raise InputError(
            f"{column} lies around {known.mean():.10g} and varies by {spread:.2g}, of which float32 loses up to"
            f" {lost:.2g}: take a constant off, such as {np.round(known.min()):.10g}, at all sites, or exclude it"
        )


def category_codes(table: pd.DataFrame, column: str, missing: Collection[str]) -> NDArray[np.float32]:
    """A column's categories as codes, float32, (records,): hashes of 23 bits; NaN where one is missing.

    A category has the same code at every site, so that no list of texts has to travel. Where numbers are categories,
    ``1`` and ``1.0`` are the same; so are accents, composed or not.

    Raises:
        InputError: If two categories have one code.
    """
    texts = [plain(text) for text in table[column].tolist()]
    of: dict[str, float] = {text: np.nan if text.lower() in missing else float(code(text)) for text in set(texts)}
    taken: dict[float, str] = {}
    for text in sorted(of):
        other = taken.setdefault(of[text], text)
        if other != text and not np.isnan(of[text]):
            raise InputError(
                f"the categories {other[:50]!r} and {text[:50]!r} of {column} cannot be told apart by their codes:"
                " rename one of them, at all sites"
            )
    return np.array([of[text] for text in texts], np.float32)


def code(text: str) -> int:
    """The code of a category, a whole number below 2**23."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % CODES


def are_missing(texts: Sequence[str], missing: Collection[str]) -> NDArray[np.bool_]:
    """Which cells are missing: their texts, as ``plain`` has them and in small letters, are among those that say so."""
    return np.array([plain(text).lower() in missing for text in texts], bool)


def plain(text: str) -> str:
    """A cell as any table has it: a number without a fraction is a whole one, and accents are composed."""
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    whole, dot, fraction = text.partition(".")
    return whole if dot and whole.lstrip("-").isdecimal() and not fraction.strip("0") else text


def labels(table: pd.DataFrame, columns: Sequence[str], task: Task, thresholds: Sequence[float]) -> list[Any]:
    """The labels of some records, none of which is missing.

    Args:
        table: The records.
        columns: The columns of the target: one; or one a finding; or those of the time and of the event.
        task: What the labels are of.
        thresholds: If there are some, a label is the number of those that the value is above.

    Raises:
        InputError: If a cell is no label; the message names file, row and column.
    """
    name = " and ".join(columns)
    found = []
    for row, cells in enumerate(zip(*(table[column].tolist() for column in columns), strict=True)):
        try:
            text = _joined([plain(cell) for cell in cells], task)
            found.append(_class(text, thresholds) if thresholds else _parsed(text, cells[0], task))
        except ValueError as error:
            raise InputError(
                f"{table[ORIGIN].iloc[row]}: {name} is {', '.join(cells)[:50]!r}, which is not {error}"
            ) from None
    return found


def _parsed(text: str, given: str, task: Task) -> Any:
    try:
        return task.parse(text)
    except ValueError:
        return task.parse(given)  # of classes that are called 1.0 and 2.0


def _joined(cells: Sequence[str], task: Task) -> str:
    if len(cells) == 1:
        return cells[0]
    if task.name == "multilabel":
        if set(cells) - {"0", "1"}:
            raise ValueError("0 or 1 in each column")
        return "".join(cells)
    time, event = cells
    if event not in ("0", "1"):
        raise ValueError("a time, and 1 for the event or 0 for one that is censored")
    return time + ("" if event == "1" else "+")


def _class(text: str, thresholds: Sequence[float]) -> int:
    value = number(text)
    return sum(value > each for each in thresholds)
