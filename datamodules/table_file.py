"""Reads the file of a table as text: CSV, TSV or Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lit_dist.datamodules.label_table import read_table, refuse_empty, row_number
from lit_dist.datamodules.table_columns import ORIGIN
from lit_dist.utils.atomic_write import refuse_special
from lit_dist.utils.errors import InputError


def read_table_file(path: Path, columns: Sequence[str], header: Sequence[str], filled: Sequence[str]) -> pd.DataFrame:
    """Read a table as text; its columns, and ``ORIGIN``.

    Args:
        path: The file. One that ends in ``.parquet`` is read as such, all others as text.
        columns: The columns that must be there.
        header: The names of the columns, where the file has no header.
        filled: The columns of which no cell may be empty.

    Raises:
        InputError: If it cannot be read, or lacks a column, or a row or a cell that has to be filled.
    """
    table = _read_parquet(path, columns) if path.suffix == ".parquet" else read_table(path, columns, header, whole=True)
    for column in filled:
        refuse_empty(table, column, path)
    return table.assign(**{ORIGIN: [f"{path}, row {row_number(row)}" for row in table.index.tolist()]})


def _read_parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    refuse_special(path)
    try:
        table = pd.read_parquet(path)
    except ImportError:
        raise InputError(f"{path} takes a reader of Parquet: pip install pyarrow, or save the table as CSV") from None
    except FileNotFoundError:
        raise InputError(f"there is no table at {path}") from None
    except Exception as error:  # whatever the reader raises for a file that is no such table
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read as a Parquet table: {text}") from None
    table.columns = [str(name) for name in table.columns]
    for column in columns:
        if column not in table.columns:
            raise InputError(f"{path} has no column {column!r}; it has {', '.join(table.columns)}"[:500])
    if table.empty:
        raise InputError(f"{path} has no rows")
    texts = {name: _texts(table[name]) for name in table.columns}
    return pd.DataFrame(texts, index=pd.RangeIndex(len(table)))


def _texts(values: "pd.Series[Any]") -> list[str]:
    """The cells of a column as they would stand in a CSV file; a missing one is empty."""
    absent = values.isna().tolist()
    return ["" if gone else _text(value) for gone, value in zip(absent, values.tolist(), strict=True)]


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
