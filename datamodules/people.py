"""The age and sex of the people that records are of, where a collection's table has them."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lit_dist.datamodules.table_columns import plain

AGE, SEX = "age of the patient", "sex of the patient"
"""The columns of a datamodule's table that hold them as text; no column of a file is called so."""

_CALLED = {
    AGE: {"age", "patient age", "age years", "age in years", "patient age years", "age at scan", "age at exam"},
    SEX: {"sex", "gender", "patient sex", "patient gender"},
}
_UNKNOWN = ("?", "na", "n/a", "nan", "none", "unknown")


def people(table: pd.DataFrame) -> pd.DataFrame:
    """The columns ``AGE`` and ``SEX`` of a table that was read, as far as it has them; empty where one is not known.

    Args:
        table: All of a file's columns, as text.

    Example:
        >>> people(pd.DataFrame({"image": ["a"], "Patient_Age": ["63"], "Gender": ["F"]})).iloc[0].tolist()
        ['63', 'F']
    """
    found = {}
    for column, names in _CALLED.items():
        known = [name for name in table if " ".join(re.findall(r"[a-z]+", str(name).lower())) in names]
        if len(known) == 1:
            texts = table[known[0]].astype(str).map(plain)
            found[column] = texts.mask(texts.str.lower().isin(_UNKNOWN), "")
    return pd.DataFrame(found, table.index)


def ages(texts: Iterable[str]) -> NDArray[np.float64]:
    """Ages in years; NaN of a text that is none. ``063Y`` is 63, as DICOM has it.

    Example:
        >>> ages(["63", "063Y", "", "old"]).tolist()
        [63.0, 63.0, nan, nan]
    """
    plain = pd.Series([re.sub(r"(?i)y$", "", str(text).strip()) for text in texts], dtype=object)
    values: NDArray[np.float64] = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64)
    return np.where((values >= 0) & (values < 150), values, np.nan)
