from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lit_dist.datamodules import TabularDataModule
from lit_dist.datamodules.table_1 import characteristics, flow
from lit_dist.report.shown_records import records_section


@pytest.fixture
def data() -> TabularDataModule:
    """Two visits of each of 80 people, at two hospitals; of some the target is not known."""
    number = np.arange(160)
    rows = pd.DataFrame({"person": number // 2, "hospital": np.where(number < 100, "A & E", "b")})
    rows["age"] = np.where(number < 20, "?", (30 + number // 2).astype(str))
    rows["sex"] = np.where(number // 2 % 4, "f", "m")
    rows["value"], rows["ill"] = (
        number * 0.5,
        np.where(number % 40 == 7, "", (number // 2 % 3 == 0).astype(int).astype(str)),
    )
    rows.to_csv("people.csv", index=False)
    named = {"site_column": "hospital", "patient_column": "person", "classes": ["0", "1"]}
    found = TabularDataModule("people.csv", "ill", features=["value"], **named)
    found.setup("fit")
    return found


def test_each_site_is_described_and_all_together(data: TabularDataModule) -> None:
    table = characteristics(data).set_index("site")
    assert table.index.tolist() == ["A & E", "b", "all sites"]
    for column in ("records", "patients", "train_records", "val_patients", "test_records", "0", "1", "sex_f", "sex_m"):
        assert table.loc["A & E", column] + table.loc["b", column] == table.loc["all sites", column]
    assert (table["train_records"] + table["val_records"] + table["test_records"]).equals(table["records"])
    assert table.loc["all sites", ["records", "patients"]].tolist() == [156, 80]
    assert table.loc["all sites", ["sex_f", "sex_m"]].tolist() == [60, 20]
    ages = np.arange(40, 110)  # of the first ten people none is known; each counts once
    assert table.loc["all sites", ["age_mean", "age_sd"]].tolist() == [ages.mean(), round(ages.std(ddof=1), 1)]


def test_the_flow_begins_with_all_records_and_ends_with_the_splits(data: TabularDataModule) -> None:
    table = flow(data).set_index("step")
    assert table.loc["found", "records"] == 160
    assert table.loc["left out: without a value of ill", "records"] == 4
    assert table.loc[["used", "train", "val", "test"], "records"].tolist()[0] == 156
    assert table.loc[["train", "val", "test"], "records"].sum() == 156
    assert table.loc[["train", "val", "test"], "patients"].sum() == table.loc["used", "patients"] == 80


def test_the_report_shows_both(data: TabularDataModule) -> None:
    characteristics(data).to_csv("table_1.csv", index=False)
    assert records_section(Path()) == ""
    flow(data).to_csv("flow.csv", index=False)
    text = records_section(Path(), held_out=True)
    assert "<td>A &amp; E</td>" in text
    assert "<td>156 (80)</td>" in text
    assert "<th>sex: f</th>" in text
    assert "<td>74.5 (20.4)</td>" in text
    assert "left out: without a value of ill" in text
    assert "held out in turn" in text
    assert "nan" not in text
    assert "&lt;NA&gt;" not in text
