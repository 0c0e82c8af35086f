from collections.abc import Sequence

import pandas as pd
import pytest

from lit_dist import InputError
from lit_dist.datamodules.table_columns import ORIGIN, numbers


def column(values: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame({"x": [repr(value) for value in values], ORIGIN: "t.csv, row"})


@pytest.mark.parametrize("values", [[1e9 + number for number in range(50)], [20231101 + day / 10 for day in range(30)]])
def test_values_that_float32_cannot_tell_apart_are_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match=r"x lies around .* take a constant off"):
        numbers(column(values), "x", {""})


@pytest.mark.parametrize(
    "values",
    [[0.1 + 0.2, 0.3, 0.3], [7.0] * 5, [1e20, 3e20], [1e-20, 2e-20], [0.0, 1e9, 5.0], [20231101.0, 19991231.0], []],
)
def test_other_values_are_taken_however_large_or_small(values: list[float]) -> None:
    assert numbers(column(values), "x", {""}).tolist() == pytest.approx(values, rel=1e-6)
