import numpy as np
import pandas as pd
import pytest

from lit_dist.datamodules.people import AGE, SEX, ages, people


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("age", AGE),
        ("Patient Age", AGE),
        ("AGE_AT_SCAN", AGE),
        ("Age (years)", AGE),
        ("Sex", SEX),
        ("patient.gender", SEX),
    ],
)
def test_columns_are_known_by_what_people_call_them(name: str, column: str) -> None:
    found = people(pd.DataFrame({"image": ["a"], name: ["x"]}))
    assert found.to_dict("list") == {column: ["x"]}


@pytest.mark.parametrize("names", [["page"], ["average"], ["sex", "gender"], ["stage"], []])
def test_other_columns_and_two_of_a_kind_are_none(names: list[str]) -> None:
    assert people(pd.DataFrame({name: ["x"] for name in ["image", *names]})).columns.empty


def test_what_is_not_known_is_empty() -> None:
    table = pd.DataFrame({"age": ["NA", "45", ""], "sex": ["?", "F", "Unknown"]})
    assert people(table).to_numpy().tolist() == [["", ""], ["45", "F"], ["", ""]]


def test_ages_that_nobody_has_are_not_known() -> None:
    assert np.isnan(ages(["-9", "999", "inf", "1e9", "F"])).all()
    assert ages(["0", "12.5", "044Y"]).tolist() == [0, 12.5, 44]


def test_numbers_of_one_value_are_one_sex() -> None:
    assert people(pd.DataFrame({"sex": ["1", "1.0", "0.0"]})).iloc[:, 0].tolist() == ["1", "1", "0"]
