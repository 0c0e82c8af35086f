"""Tables of images: which file each row names, of whom it is, and where; one rule for every collection."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import pandas as pd

from lit_dist.datamodules.label_table import read_table, refuse_empty, refuse_repeats, row_number
from lit_dist.datamodules.people import people
from lit_dist.utils.errors import InputError

MAY_BE_EMPTY = ("view",)
_OUTSIDE = re.compile(r"(?:.*[/\\])?\.\.(?:[/\\]|$)|[/\\]|[A-Za-z]:[/\\]", re.DOTALL)
_Label = TypeVar("_Label", int, str)


def read_image_table(
    path: Path, images: Path, columns: Mapping[str, str | None], may_be_empty: Collection[str] = MAY_BE_EMPTY
) -> pd.DataFrame:
    """Read a table with one row an image.

    Args:
        path: The table, comma-separated.
        images: The folder that its files are in, or in folders below.
        columns: By the names of the result's columns, those of the table's; None where it has none. ``image`` has the
            files, relative to ``images``, with or without suffix.
        may_be_empty: Those of the result's columns in which a field may be empty.

    Returns:
        These columns as text, those of ``people``, and ``origin``: what to begin a message about the row with. The
        index counts the table's rows.

    Raises:
        InputError: If the table is not such a one, a field is empty, or a file is not below the folder; the message
            names the row.
    """
    named = {name: column for name, column in columns.items() if column is not None}
    table = read_table(path, list(named.values()))
    for name, column in named.items():
        if name not in may_be_empty:
            refuse_empty(table, column, path)
    _refuse_outside(table[named["image"]], images, path)
    origins = [f"{path}, row {row_number(row)}" for row in table.index.tolist()]
    chosen = {name: table[column] for name, column in named.items()}
    return pd.DataFrame({**people(table), **chosen, "origin": origins}, table.index)


def find_files(table: pd.DataFrame, path: Path, find: Callable[[str, str], str | None]) -> list[str | None]:
    """The file that each row means; None where there is none.

    Args:
        table: What ``read_image_table`` gave, or some rows of it.
        path: Where that was read.
        find: Gives the file of a name; its second argument is what to begin a message with.

    Raises:
        InputError: If two rows mean one file, or ``find`` raises it.
    """
    names = table["image"].tolist()  # pandas' own iteration takes ten times as long
    files = list(map(find, names, table["origin"].tolist()))
    refuse_repeats(table.assign(file=[file or name for file, name in zip(files, names, strict=True)]), "file", path)
    return files


def parse_labels(
    table: pd.DataFrame, known: Mapping[str, _Label], column: str | None, name: str = "label"
) -> "pd.Series[_Label]":
    """What the texts of a column mean, in letters of any size.

    Args:
        table: What ``read_image_table`` gave.
        known: The meaning of each text in small letters.
        column: The name of the column in the file.
        name: The name of the column in the table.

    Raises:
        InputError: If a text is not one of ``known``; the message names the row.
    """
    texts = [text.lower() for text in table[name].tolist()]
    if not known.keys() >= set(texts):
        wrong = table[[text not in known for text in texts]]
        raise InputError(
            f"{wrong['origin'].iloc[0]}: {column} is {wrong[name].iloc[0]!r}, not one of {', '.join(known)}"
            f" ({len(wrong)} such rows)"
        )
    return pd.Series([known[text] for text in texts], table.index)


def _refuse_outside(names: "pd.Series[str]", images: Path, path: Path) -> None:
    """Refuse names of files that are absolute, or have ``..`` in them."""
    values = names.tolist()
    everything = "\n".join(values)
    if not any(part in everything for part in ("/", "\\", "..")):  # in most tables, so one look does for all rows
        return
    wrong = names[[_OUTSIDE.match(name) is not None for name in values]]
    if len(wrong):
        row = row_number(int(wrong.index[0]))
        raise InputError(
            f"{path}, row {row}: {wrong.iloc[0]!r} leads out of {images}; images are read from there alone"
        )
