"""TabularDataModule: rows of tables, with errors that name the cell."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule

from contract import Make, RecordContract, once
from lit_dist import TabularPredictor
from lit_dist.datamodules import SiteDataModule, TabularDataModule
from lit_dist.datamodules.table_columns import code
from lit_dist.utils.errors import InputError
from small_tables import COLUMNS, HOSPITALS, write_hearts, write_patients

NAMED = {"id_column": "id", "patient_column": "patient", "site_column": "hospital"}
PLAIN: dict[str, Any] = {**NAMED, "target": "ill", "classes": ["no", "yes"], "categorical": ["blood"],
                         "features": ["weight", "height", "blood", "smoker"]}  # fmt: skip


def patients(**settings: Any) -> TabularDataModule:
    return TabularDataModule(table="patients.csv", root=once(write_patients), **{**PLAIN, **settings})


def hearts(**settings: Any) -> TabularDataModule:
    tables = {site: f"processed.{site}.data" for site in HOSPITALS}
    more: dict[str, Any] = {"target": "num", "thresholds": [0], "classes": ["healthy", "disease"], **settings}
    return TabularDataModule(tables, root=once(write_hearts), header=COLUMNS, **more)


class TestContract(RecordContract):
    @staticmethod
    def model(data: SiteDataModule) -> LightningModule:
        return TabularPredictor(num_classes=2, numeric=3, categorical=1)

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return patients


def first_batch(data: TabularDataModule, site: str) -> tuple[torch.Tensor, torch.Tensor]:
    batch: tuple[torch.Tensor, torch.Tensor] = next(iter(data.test_dataloader()[site]))
    return batch


def test_batches_are_raw_values_numbers_first_with_nan_where_one_is_missing() -> None:
    data = patients()
    inputs, targets = first_batch(data, "a")
    assert (data.numeric_columns, data.categorical_columns) == (["weight", "height", "smoker"], ["blood"])
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    table = pd.read_csv(once(write_patients) / "patients.csv", dtype={"blood": str}, keep_default_na=False).set_index(
        "id"
    )
    for row, name in enumerate(data.test_dataloader()["a"].dataset.table["image"]):
        cells = table.loc[name]
        weight = float(cells["weight"]) if cells["weight"] else np.nan
        blood = np.nan if cells["blood"] == "NA" else code(cells["blood"])
        expected = torch.tensor([weight, cells["height"], cells["smoker"], blood], dtype=torch.float32)
        assert torch.equal(inputs[row].nan_to_num(-1), expected.nan_to_num(-1))
        assert targets[row] == (cells["ill"] == "yes")


def test_a_category_has_one_code_at_every_site_and_as_a_whole_number_or_not(tmp_path: Path) -> None:
    codes = []
    for text in ("1", "1.0"):
        (tmp_path / "t.csv").write_text("y,c,n\n" + f"0,{text},1\n1,{text},2\n" * 20)
        data = TabularDataModule("t.csv", "y", root=tmp_path, classes=["0", "1"], categorical=["c"], sites=2)
        codes.append(first_batch(data, "site-1")[0][0, 1].item())
    assert codes[0] == codes[1] == code("1")
    assert all(float(np.float32(code(str(n)))) == code(str(n)) < 2**23 for n in range(2000))


def test_a_cell_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    cells = ["-9", "-9.0", "1", "2"] * 10
    texts = ["caf\u00e9", "cafe\u0301", "-9.00", "x"] * 10
    rows = "".join(f"{n % 2},{cell},{text}\n" for n, (cell, text) in enumerate(zip(cells, texts, strict=True)))
    (tmp_path / "t.csv").write_text("y,n,c\n" + rows)
    data = TabularDataModule(
        "t.csv", "y", root=tmp_path, classes=["0", "1"], categorical=["c"], sites=2, missing=["-9.0"]
    )
    values = torch.cat([data.dataset(data.sites, split).values for split in ("train", "val", "test")])
    assert sorted(set(values[:, 0].nan_to_num(-1).tolist())) == [-1, 1, 2]
    assert sorted(set(values[:, 1].nan_to_num(-1).tolist())) == sorted([-1, code("caf\u00e9"), code("x")])


def test_each_hospital_may_have_a_file_of_its_own_without_a_header() -> None:
    data = hearts(categorical=["cp"])
    assert data.sites == list(HOSPITALS)
    assert data.table.groupby("site").size().tolist() == [40] * 4
    assert set(data.table["label"]) == {0, 1}
    place = data.numeric_columns.index("ca")
    assert first_batch(data, "hungarian")[0][:, place].isnan().all()
    assert not first_batch(data, "va")[0].isnan().any()


@pytest.mark.parametrize(
    ("settings", "dtype", "shape"),
    [
        ({"task": "regression", "target": "years", "classes": None}, torch.float32, ()),
        ({"task": "survival", "target": ["years", "event"], "classes": None}, torch.float32, (2,)),
        ({"task": "multilabel", "target": ["cough", "fever"], "classes": None}, torch.float32, (2,)),
        ({"task": "ordinal", "target": "grade", "classes": ["0", "1", "2"]}, torch.int64, ()),
        ({"target": "years", "thresholds": [5.0], "classes": ["short", "long"]}, torch.int64, ()),
    ],
)
def test_targets_are_those_of_the_task(settings: dict[str, Any], dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    data = patients(**settings)
    _, targets = first_batch(data, "b")
    assert (targets.dtype, targets.shape[1:], data.learning_task.name) == (
        dtype,
        shape,
        settings.get("task", "classification"),
    )
    table = pd.read_csv(once(write_patients) / "patients.csv").set_index("id")
    row = table.loc[data.test_dataloader()["b"].dataset.table["image"].iloc[0]]
    expected = {"survival": lambda: [row["years"], row["event"]], "multilabel": lambda: [row["cough"], row["fever"]],
                "regression": lambda: row["years"], "ordinal": lambda: row["grade"],
                "classification": lambda: int(row["years"] > 5)}[data.learning_task.name]()  # fmt: skip
    assert targets[0].tolist() == pytest.approx(expected)


def test_features_are_all_columns_that_are_not_named_otherwise_nor_without_a_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"y": [0, 1] * 10, "a": range(20), "b": range(20), "c": range(20)})
    frame.to_csv(tmp_path / "t.csv")  # with an index that has no name, by which the label could be told
    data = TabularDataModule("t.csv", "y", root=tmp_path, classes=["0", "1"], exclude=["b"], sites=2)
    assert len(data.table) == 20
    assert data.numeric_columns == ["a", "c"]


def test_columns_may_have_the_names_that_records_have_here(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("y,image,site,patient,label\n" + "0,1,2,3,4\n1,5,6,7,8\n" * 10)
    data = TabularDataModule("t.csv", "y", root=tmp_path, classes=["0", "1"], sites=2)
    assert data.sites == ["site-1", "site-2"]
    assert data.numeric_columns == ["image", "site", "patient", "label"]
    assert {*map(tuple, data.dataset(data.sites, "train").values.tolist())} == {(1, 2, 3, 4), (5, 6, 7, 8)}


def test_files_with_unlike_columns_are_refused_unless_the_features_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("y,w,h\n" + "0,1,2\n1,5,6\n" * 10)
    (tmp_path / "b.csv").write_text("y,h,z\n" + "0,1,2\n1,5,6\n" * 10)
    given: dict[str, Any] = {"target": "y", "root": tmp_path, "classes": ["0", "1"]}
    with pytest.raises(InputError, match=r"b.csv and a.csv differ in the column 'w' \(2 such columns\)"):
        _ = TabularDataModule({"a": "a.csv", "b": "b.csv"}, **given).table
    data = TabularDataModule({"a": "a.csv", "b": "b.csv"}, **given, features=["h"])
    assert data.dataset(["b"], "train").values.flatten().unique().tolist() == [1, 5]


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("y\ta\n" + "0\t1\n?\t2\n1\t3\n" * 10)
    data = TabularDataModule("t.tsv", "y", root=tmp_path, classes=["0", "1"], sites=2)
    assert len(data.table) == 20
    assert data.left_out_of == {("", "without a value of y"): 10}
    assert sorted(data.dataset(data.sites, "train").values.unique().tolist()) == [1, 3]


def test_a_parquet_table_is_read_as_its_csv(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"y": [True, False] * 10, "a": [1, None] * 10, "c": ["x", "y"] * 10, "n": range(20)})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.assign(y=frame["y"].astype(int)).to_csv(tmp_path / "t.csv", index=False)
    made = [
        TabularDataModule(f"t.{end}", "y", root=tmp_path, classes=["0", "1"], categorical=["c"], sites=2)
        for end in ("parquet", "csv")
    ]
    values = [data.dataset(data.sites, "train").values.nan_to_num(-1) for data in made]
    assert torch.equal(*values)


def test_parquet_without_a_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")

    def without(*_: Any) -> None:
        raise ImportError

    monkeypatch.setattr(pd, "read_parquet", without)
    with pytest.raises(InputError, match="pip install pyarrow"):
        _ = TabularDataModule("t.parquet", "y", root=tmp_path, classes=["0", "1"]).table


BAD = [
    ({"weight": "heavy"}, r"row 3: weight is 'heavy', which is no number \(1 such rows\)"),
    ({"weight": "inf"}, "row 3: weight is 'inf', which is no number"),
    ({"weight": "1e40"}, "row 3: weight is '1e40', which is no number"),
    ({"weight": "61,5"}, "has more fields|row 3: .*no number|cannot be read"),
    ({"ill": "maybe"}, "row 3: ill is 'maybe', which is not one of no, yes"),
    ({"id": ""}, "row 3: id is empty"),
    ({"id": "r0"}, "row 3 repeats 'r0' of row 2"),
    ({"hospital": ""}, "row 3: hospital is empty"),
    ({"hospital": "../up"}, "up"),
    ({"patient": ""}, "row 3: patient is empty"),
]


@pytest.mark.parametrize(
    ("cells", "message"), BAD, ids=[f"{name}-{text}" for cells, _ in BAD for name, text in cells.items()]
)
def test_a_bad_cell_is_named(cells: dict[str, str], message: str, tmp_path: Path) -> None:
    write_patients(tmp_path / "root")
    path = tmp_path / "root" / "patients.csv"
    lines = path.read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[2].split(","), strict=True)) | cells
    path.write_text("\n".join([*lines[:2], ",".join(row.values()), *lines[3:]]) + "\n")
    with pytest.raises(InputError, match=message):
        _ = TabularDataModule(path.name, root=path.parent, **PLAIN).table


def test_a_survival_time_is_not_learnt_from_one_record_at_a_time() -> None:
    with pytest.raises(InputError, match="batch_size=1: the loss of task=survival compares"):
        patients(task="survival", target=["years", "event"], classes=None, features=["weight"], categorical=[],
                 batch_size=1).train_dataloader()  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "height", "features": ["weight"], "categorical": []}, "height is '.*', which is not one of"),
        ({"target": "absent"}, "has no column 'absent'"),
        ({"features": ["weight", "absent"]}, "has no column 'absent'"),
        ({"features": ["weight", "ill"]}, "'ill' is a feature, and the target"),
        ({"features": ["weight", "hospital"]}, "'hospital' is a feature"),
        ({"features": ["blood", "weight"], "categorical": []}, "blood is 'A', which is no number .* under categorical"),
        ({"features": ["weight"], "categorical": ["blood"]}, "categorical names .*blood"),
        ({"classes": ["no"]}, "num_classes=1 is not at least 2"),
        ({"classes": None}, "classes is missing: name the texts of"),
        ({"task": "regression", "target": ["years", "height"]}, "task=regression takes 1"),
        ({"task": "survival", "target": ["years", "grade"], "classes": None}, "is not a time, and 1 for the event"),
        ({"task": "multilabel", "target": ["cough", "grade"]}, "which is not 0 or 1 in each column"),
        ({"thresholds": [1, 2]}, "make 3 classes"),
        ({"target": "years", "thresholds": [float("nan")]}, "are not numbers"),
        ({"classes": ["no", "yes", "no"]}, "classes names 'no' twice"),
        ({"features": ["weight", "weight"], "categorical": []}, "features names 'weight' twice"),
        ({"target": "years", "task": "regression", "thresholds": [1]}, "make 2 classes"),
    ],
)  # fmt: skip
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = patients(**settings).table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read|no rows"),
        ("1;2\n3;4\n", "row 1 has 2 fields, and header names 3 columns"),
        ("1,2,0\n3,4\n", "row 2 has 2 fields, and there are 3 columns"),
        ("1,2,0\n3,4,1,5\n", "cannot be read"),
        ("1,2,0\n3,x,1\n", "row 2: b is 'x', which is no number"),
    ],
)
def test_a_bad_file_without_a_header_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.data").write_text(text)
    with pytest.raises(InputError, match=message):
        _ = TabularDataModule("t.data", "y", root=tmp_path, header=["a", "b", "y"], classes=["0", "1"], sites=1).table


def test_two_categories_of_one_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.datamodules.table_columns.CODES", 1)
    with pytest.raises(InputError, match="'0' and 'A' of blood cannot be told apart"):
        _ = patients().table


def test_standardising_each_site_by_itself_takes_its_mean_out_and_warns() -> None:
    data = hearts(features=["age", "ca", "cp"], categorical=["cp"], standardise_sites=True)
    with pytest.warns(UserWarning, match="takes out of the columns what differs between sites"):
        data.setup("fit")
    values = data.dataset(["va"], "train").values
    assert values[:, 0].mean().item() == pytest.approx(0, abs=1e-5)
    assert values[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert values[:, 2].unique().numel() == 4, "categories stay"
    assert data.dataset(["hungarian"], "train").values[:, 1].isnan().all()
