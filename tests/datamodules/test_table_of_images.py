"""ImageTableDataModule: any target of a table, with errors that name the row."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contract import DataModuleContract, Make, once
from fake_odir import UNKNOWN_AGE, write_odir
from lit_dist.datamodules import Augmentation, DirichletPartition, ImageTableDataModule
from lit_dist.utils.errors import InputError
from real_data import real_folder

AGE: dict[str, Any] = {"target": "age", "task": "regression", "missing": ["", "1"]}
SEX: dict[str, Any] = {"target": "sex", "classes": ["female", "male"]}
FINDINGS: dict[str, Any] = {"target": "diagnosis", "task": "multilabel", "separator": ""}


def make(root: Path | None = None, **settings: Any) -> ImageTableDataModule:
    given = root or once(write_odir)
    own = {"patient_column": "patient", "size": 32, "cache_dir": given.parent / "cache"}
    return ImageTableDataModule(given, **{**own, **settings})


class TestContract(DataModuleContract):
    @pytest.fixture
    def make(self) -> Make:
        return partial(make, **SEX, augmentation=Augmentation())


def write(folder: Path, *rows: str, header: str = "image,patient,age,seen,died") -> Path:
    """A table of photographs, of which each patient has one."""
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    drawn = sorted((once(write_odir) / "images").iterdir())
    for row, path in zip(rows, drawn, strict=False):
        (folder / row.partition(",")[0]).write_bytes(path.read_bytes())
    return folder


def ready(data: ImageTableDataModule) -> ImageTableDataModule:
    data.prepare_data()
    data.setup("fit")
    return data


def test_ages_stay_fractions_and_those_that_say_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    data = make(**AGE)
    assert len(data.table) == 120 - UNKNOWN_AGE
    assert data.left_out_of["", "without a value of age"] == UNKNOWN_AGE
    whole = ready(make(write(tmp_path, *(f"{n}.jpg,{n},{n}.48,1,0" for n in range(40))), **AGE))
    ages = torch.cat([batch[1] for batch in whole.train_dataloader()["site-1"]])
    assert ages.dtype == torch.float32
    assert torch.allclose(ages % 1, torch.tensor(0.48), atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "dtype", "shape"),
    [
        (AGE, torch.float32, ()),
        (SEX, torch.int64, ()),
        ({**FINDINGS, "classes": list("NDGCH")}, torch.float32, (5,)),
        ({**FINDINGS, "classes": ["C"]}, torch.float32, (1,)),
        ({"target": ["age", "sex"], "task": "survival"}, None, ()),
    ],
)
def test_targets_are_those_of_the_task(settings: Any, dtype: torch.dtype | None, shape: tuple[int, ...]) -> None:
    if dtype is None:
        with pytest.raises(InputError, match=r"labels.csv, row 2: age and sex is '1, female'"):
            make(**settings).table  # noqa: B018
        return
    targets = next(iter(ready(make(**settings)).train_dataloader()["site-1"]))[1]
    assert (targets.dtype, targets.shape[1:]) == (dtype, shape)


def test_findings_of_a_cell_are_told_apart_and_others_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    data = make(**FINDINGS, classes=["D", "C"])
    wanted = {"N": "00", "D": "10", "GC": "01", "C": "01", "DH": "10"}
    table = dict(zip(data.table["image"], data.table["label"], strict=True))
    lines = (once(write_odir) / "labels.csv").read_text().splitlines()[1:]
    assert {cells[0]: wanted[cells[5]] for cells in (line.split(",") for line in lines)} == table
    assert "Not predicted, since classes does not name them: G, H, N" in caplog.text


def test_both_eyes_stay_together_also_where_sites_differ_in_age() -> None:
    table = make(**AGE, partition=DirichletPartition(0.3, smallest=5), split_seed=1).table
    assert (table.groupby("patient")[["site", "split"]].nunique() == 1).all(axis=None)
    means = table.groupby("site")["label"].mean()
    assert means.max() - means.min() > 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "height", "task": "regression"}, "labels.csv has no column 'height'"),
        ({"target": "sex", "task": "regression"}, r"labels.csv, row 2: sex is 'female', which is not a number"),
        ({"target": "sex", "classes": ["F", "M"]}, "row 2: sex is 'female', which is not"),
        ({"target": "sex"}, "task=classification takes classes: give the data their names"),
        ({**FINDINGS, "classes": ["D", "X"]}, "no row of .* has the finding 'X' in diagnosis; there are C, G, H, N"),
        ({"target": ["age", "sex"], "task": "regression"}, "has 2 columns; task=regression takes 1"),
        ({**AGE, "separator": "|"}, "separator='|' is for task=multilabel"),
        ({"target": "sex", "task": "regression", "missing": ["female", "male"]}, "no row of .* has a value of sex"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("='|'", r"='\|'")):
        make(**settings).table  # noqa: B018


def test_survival_times_are_read_of_two_columns(tmp_path: Path) -> None:
    root = write(tmp_path, *(f"{n}.jpg,{n},50,{n + 1}.5,{n % 2}" for n in range(40)))
    data = make(root, target=["seen", "died"], task="survival")
    assert next(iter(ready(data).train_dataloader()["site-1"]))[1].shape[1:] == (2,)


def test_the_real_collection_has_28_ages_that_say_nothing() -> None:
    data = make(real_folder("fundus_odir"), **AGE, cache_dir=Path("cache"))
    assert (len(data.table), data.table["patient"].nunique()) == (6261, 3183)
    assert data.left_out_of["", "without a value of age"] == 28
    assert np.isclose(data.table["label"].min(), 14, atol=10)
