"""Reading tables and lists of images and labels, with errors that name the row."""

import csv
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from lit_dist.utils.atomic_write import open_file, refuse_special
from lit_dist.utils.errors import InputError


@contextmanager
def collector_paused() -> Iterator[None]:
    """Search for no garbage in the block: where a million small objects are made that all stay, it would be in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_lines(path: Path, where: str = "", most: int = -1) -> list[str]:
    """Read a text file, UTF-8.

    Args:
        path: The file.
        where: What to add to the message that it is missing.
        most: The greatest number of bytes that such a file has; -1 sets no limit.

    Raises:
        InputError: If the file is missing, longer, or not text.
    """
    try:
        with open_file(path) as file:
            content = file.read(most + 1 if most >= 0 else -1)
        if 0 <= most < len(content):
            raise InputError(f"{path} is longer than {most} bytes, which no such file is")
        return content.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"there is no {path}{where}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from None


def read_table(path: Path, columns: Sequence[str], header: Sequence[str] = (), whole: bool = False) -> pd.DataFrame:
    """Read a CSV file as text, keeping all its columns.

    Args:
        path: The file, UTF-8, with a header. Fields are separated by commas, or by semicolons or tabs if the header
            shows that.
        columns: The columns that must be there.
        header: The names of the columns of a file that has no header.
        whole: Whether a row with fewer fields than there are columns is refused; else those that lack are empty.

    Returns:
        One row a line, without blank ones, and fields without blanks around them; the index counts all lines, so that
        ``row_number`` holds.

    Raises:
        InputError: If the file is missing, empty or not such a table, or lacks a column or has it twice.
    """
    refuse_special(path)
    try:
        first = {"header": None, "names": list(header), "sep": _separator_of(path, len(header))} if header else {}
        given: dict[str, Any] = first or {"sep": _separator(path, columns)}
        table: pd.DataFrame = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False, **given
        )
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no table at {path}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as a comma-separated UTF-8 table: {text}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas has taken the first fields as names of rows
        raise InputError(f"{path} cannot be read as a comma-separated table: row 2 has more fields than the header")
    if whole and (table.iloc[:, -1] == "").any():
        _refuse_short(path, given["sep"], len(table.columns))
    if header:
        table.index = table.index - 1  # so that row_number holds
    for column in columns:
        if column not in table.columns:
            raise InputError(f"{path} has no column {column!r}; it has {', '.join(map(str, table.columns))}"[:500])
        if f"{column}.1" in table.columns:  # pandas' name for the second one
            raise InputError(f"{path} has two columns {column!r}; remove or rename one")
    for column in table.columns:  # which Python does several times faster than pandas
        values = table[column].tolist()
        stripped = [value.strip() for value in values]
        if stripped != values:
            table[column] = stripped
    if (table.iloc[:, 0] == "").any():
        table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{path} has no rows")
    return table


def _separator(path: Path, columns: Sequence[str]) -> str:
    """The one by which the header has all the columns; a comma if it is not that clear."""
    with path.open(encoding="utf-8-sig", newline=None) as file:
        header = file.readline(100_000)
    for separator in ",;\t":
        if {name.strip('"') for name in header.rstrip("\n").split(separator)} >= set(columns):
            return separator
    return ","


def _separator_of(path: Path, fields: int) -> str:
    """The one by which the first line of a file without a header has so many fields."""
    with path.open(encoding="utf-8-sig", newline=None) as file:
        line = file.readline(100_000)
    found = {separator: line.count(separator) + 1 for separator in ",;\t"}
    for separator, count in found.items():
        if count == fields or not line:
            return separator
    raise InputError(f"{path}, row 1 has {max(found.values())} fields, and header names {fields} columns")


def _refuse_short(path: Path, separator: str, fields: int) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        for row in reader:
            if row and len(row) < fields:
                raise InputError(f"{path}, row {reader.line_num} has {len(row)} fields, and there are {fields} columns")


def row_number(index: int) -> int:
    """The line of a table's row as a spreadsheet shows it: the header is line 1."""
    return index + 2


def refuse_repeats(table: pd.DataFrame, column: str, path: Path) -> None:
    """Raise ``InputError`` if a value of a column stands in two rows."""
    repeats = table.index[table[column].duplicated()]
    if len(repeats):
        again = int(repeats[0])
        name = table.loc[again, column]
        first = int(table.index[table[column] == name][0])
        raise InputError(
            f"{path}, row {row_number(again)} repeats {name!r} of row {row_number(first)}"
            f" ({len(repeats)} repeated rows); keep one row a record"
        )


def refuse_empty(table: pd.DataFrame, column: str, path: Path) -> None:
    """Raise ``InputError`` if a value of a column is empty."""
    values = table[column].tolist()
    if "" in values:
        empty = table.index[[not value for value in values]]
        raise InputError(f"{path}, row {row_number(int(empty[0]))}: {column} is empty ({len(empty)} such rows)")
