"""CSV files as text: those of a run or a study, whose names may look like numbers."""

from pathlib import Path
from typing import IO

import pandas as pd

from lit_dist.utils.errors import InputError


def read_text_table(table: Path | IO[str]) -> pd.DataFrame:
    """Read a table as text, so that no name is taken for a number, nor for none.

    Raises:
        InputError: If it is missing, or no table.
    """
    try:
        return pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table} is missing, or no table: {error}") from None
