"""Tables of a packed study beside those that are computed again."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from lit_dist.utils.errors import InputError
from lit_dist.utils.text_table import read_text_table

_RELATIVE, _ABSOLUTE = 1e-4, 5e-4
"""How far a number may be from the one that is computed again: processors round differently, and a report shows three
digits."""


def compare(path: Path, stated: pd.DataFrame, again: pd.DataFrame, source: str, exact: bool = False) -> None:
    """See that a table has the columns, rows and values of the one that was computed again.

    Args:
        path: Its file.
        stated: What it says, as text.
        again: What it should say.
        source: What that was computed from.
        exact: Whether whole numbers have to be the same, however large.

    Raises:
        InputError: If it has others.
    """
    again = read_text_table(StringIO(again.to_csv(index=False)))
    if len(stated) != len(again):
        raise InputError(f"{path} has {len(stated)} rows, and {source} give {len(again)}")
    if more := set(stated) - set(again):
        raise InputError(f"{path} has the column {min(map(str, more))}, which does not follow from {source}")
    for column in again.columns:
        if column not in stated:
            raise InputError(f"{path} has no column {column}, which {source} give")
        for row, pair in enumerate(zip(stated[column], again[column], strict=True), start=1):
            counts = exact and all(map(str.isdecimal, pair))
            if pair[0] != pair[1] and (counts or not near(*pair)):
                raise InputError(f"{path}, row {row}: {column} is {pair[0]}, and {source} give {pair[1]}")


def near(stated: object, again: object) -> bool:
    """Whether a number is as good as the one that was computed again."""
    try:
        return bool(np.isclose(float(stated), float(again), rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(stated) == str(again)
