import os
import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from contract import DataModuleContract, Make, once, pixels_of
from fake_fundus import write_fundus
from lit_dist.datamodules import CountPartition, FundusDataModule, SizePartition
from lit_dist.datamodules.splits import write_splits
from lit_dist.utils.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return shutil.copytree(once(write_fundus), tmp_path / "eyepacs")


def make(root: Path, **settings: Any) -> FundusDataModule:
    return FundusDataModule(**{"root": root, "radius": 30, "size": 32, "cache_dir": root.parent / "cache", **settings})


class TestFundusDataModule(DataModuleContract):
    @pytest.fixture
    def make(self) -> Make:
        return partial(make, once(write_fundus))


class TestRealPhotographs(DataModuleContract):
    """The same contract over real photographs."""

    cache: Path | None = None

    @pytest.fixture
    def make(self, eyepacs: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
        cls = type(self)
        cls.cache = cls.cache or tmp_path_factory.mktemp("real-cache")
        return lambda **settings: make(eyepacs, **{"cache_dir": cls.cache, **settings})


# -- tasks, eyes and columns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "images", "classes"),
    [("referable", 70, [40, 30]), ("any", 80, [40, 40]), ("grade", 80, [40, 10, 10, 10, 10])],
)
def test_tasks(root: Path, task: Any, images: int, classes: list[int]) -> None:
    data = make(root, task=task)
    assert len(data.table) == images
    assert data.table["label"].value_counts().sort_index().tolist() == classes
    assert data.num_classes == len(classes)


@pytest.mark.parametrize("eyes", ["left", "right"])
def test_one_eye_of_each_patient(root: Path, eyes: Any) -> None:
    table = make(root, eyes=eyes).table
    assert len(table) == 35
    assert table["image"].str.endswith(eyes).all()
    assert not table["patient"].duplicated().any()


def test_grades_and_eyes_that_are_left_out_are_counted_by_site(root: Path) -> None:
    table = pd.read_csv(root / "trainLabels.csv")
    table["hospital"] = ["mgh", "mgh", "ucsf", "ucsf"] * 20
    table["hospital"] = table.groupby(table["image"].str.partition("_")[0])["hospital"].transform("first")
    table.to_csv(root / "trainLabels.csv", index=False)
    data = make(root, eyes="left", site_column="hospital")
    graded = table[table["image"].str.endswith("left") & (table["level"] == 1)].groupby("hospital").size().to_dict()
    assert len(data.table) == 35
    assert sum(graded.values()) == 5
    found = {site: data.left_out_of[site, "of grade 1 (task=referable)"] for site in graded}
    assert found == graded
    assert sum(count for (_, why), count in data.left_out_of.items() if "other eye" in why) == 40


def test_each_image_counts_as_a_patient_where_nothing_tells(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        make(root).read_images()
        assert "each counts as one" not in caplog.text
        names = pd.read_csv(root / "trainLabels.csv")
        for old in names["image"]:
            (root / f"train/{old}.jpeg").rename(root / f"train/x{old.replace('_', '')}.jpeg")
        names.assign(image="x" + names["image"].str.replace("_", "")).to_csv(root / "trainLabels.csv", index=False)
        make(root).read_images()
    assert "each counts as one" in caplog.text


def test_both_eyes_stay_together(root: Path) -> None:
    table = make(root).table
    assert (table.groupby("patient").size() == 2).all()
    assert (table.groupby("patient")[["site", "split"]].nunique() == 1).all().all()


def test_a_table_of_other_columns_as_aptos_has_it(root: Path) -> None:
    names = pd.read_csv(root / "trainLabels.csv").rename(columns={"image": "id_code", "level": "diagnosis"})
    names["id_code"] = [f"{number:012x}" for number in range(len(names))]
    for old, new in zip(pd.read_csv(root / "trainLabels.csv")["image"], names["id_code"], strict=True):
        (root / "train" / f"{old}.jpeg").rename(root / "train" / f"{new}.jpeg")
    names.to_csv(root / "train.csv", index=False)
    data = make(root, labels=root / "train.csv", image_column="id_code", grade_column="diagnosis")
    assert len(data.table) == 70
    assert not data.table["patient"].duplicated().any(), "without eyes, each image is a patient"
    with pytest.raises(InputError, match=r"no image is named \.\.\._left; set eyes=both"):
        _ = make(root, labels=root / "train.csv", image_column="id_code", grade_column="diagnosis", eyes="left").table


def test_real_hospitals_and_patients_come_from_columns(root: Path) -> None:
    table = pd.read_csv(root / "trainLabels.csv")
    table["hospital"] = ["Charité", "São Paulo", "UCSF", "mgh"] * 20
    table["person"] = [f"x{number // 8}" for number in range(80)]
    table["hospital"] = table.groupby("person")["hospital"].transform("first")
    table.loc[table["person"] == "x3", "hospital"] = "UCSF"
    table.to_csv(root / "trainLabels.csv", index=False)
    settings = {"site_column": "hospital", "patient_column": "person", "allow_one_class": True}
    data = make(root, **settings, val_fraction=0.2, test_fraction=0.2)
    assert set(data.sites) == {"Charité", "UCSF"}
    assert make(root, **settings, sites=["UCSF"]).sites == ["UCSF"]
    with pytest.raises(InputError, match="'Bern' has no training records; the data has the sites UCSF"):
        _ = make(root, **settings, sites=["UCSF", "Bern"]).table


def test_a_patient_in_two_hospitals_is_refused(root: Path) -> None:
    table = pd.read_csv(root / "trainLabels.csv")
    table["hospital"] = ["a", "b"] * 40
    table.to_csv(root / "trainLabels.csv", index=False)
    with pytest.raises(InputError, match="patient '0' is in more than one site: a, b"):
        _ = make(root, site_column="hospital").table


def test_partitions_deal_out_patients(root: Path) -> None:
    sizes = make(root, partition=SizePartition([4, 2, 1, 1]), allow_one_class=True).table.groupby("site").size()
    assert sizes.max() > 2 * sizes.min()
    counted = make(root, sites=2, partition=CountPartition([[8, 4], [4, 8]])).table
    assert counted.groupby(["site", "label"]).size().tolist() == [16, 8, 8, 16]


# -- the cache -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:1 images have copies of another label")
def test_a_changed_setting_or_image_never_meets_an_old_entry(root: Path) -> None:
    before = pixels_of(make(root))
    assert (pixels_of(make(root, radius=24)) != before).any()
    changed, other = root / "train" / "0_left.jpeg", root / "train" / "2_right.jpeg"
    content = other.read_bytes()
    stat = changed.stat()
    changed.write_bytes(content.ljust(stat.st_size, b"\0")[: max(stat.st_size, len(content))])
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = pixels_of(make(root))
    assert make(root).table["image"].iloc[0] == "0_left"
    assert (after[0] != before[0]).any()
    assert (after[1:] == before[1:]).all()
    assert (after[0] == after[make(root).table["image"].tolist().index("2_right")]).all()


def test_nothing_is_prepared_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = pixels_of(make(root))
    calls: list[int] = []
    monkeypatch.setattr(FundusDataModule, "_prepare", lambda self, content: calls.append(len(content)))
    assert (pixels_of(make(root)) == expected).all()
    shutil.copytree(root, root.parent / "moved")
    assert (pixels_of(make(root.parent / "moved")) == expected).all(), "the same content elsewhere"
    assert calls == []


# -- bad input: each a sentence that names the file or the row -------------------------------------------------------


def test_a_folder_without_images_is_named(root: Path) -> None:
    shutil.rmtree(root / "train")
    with pytest.raises(InputError, match="holds no images"):
        _ = make(root).table


def test_other_columns_of_a_table_of_splits_do_no_harm(root: Path, tmp_path: Path) -> None:
    write_splits(make(root, eyes="left").table, tmp_path / "splits.csv")
    splits = pd.read_csv(tmp_path / "splits.csv", dtype=str).assign(row="7", path="elsewhere", eye="")
    splits.to_csv(tmp_path / "splits.csv", index=False)
    (root / "train" / "4_left.jpeg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"4_left\.jpeg: .*trainLabels\.csv, row 10\)"):
        make(root, splits=tmp_path / "splits.csv", eyes="left").prepare_data()


@pytest.mark.filterwarnings("ignore:1 images have copies of another label")
def test_all_bad_images_are_named_at_once_and_the_good_ones_are_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 2, 4, 5, 8, 10, 12):
        (root / "train" / f"{number}_left.jpeg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"(?s)7 images cannot be used.*0_left.*2_left.*and 2 more"):
        make(root).prepare_data()
    prepared: list[int] = []
    original = FundusDataModule._prepare
    monkeypatch.setattr(FundusDataModule, "_prepare", lambda self, c: (prepared.append(1), original(self, c))[1])
    with pytest.raises(InputError):
        make(root).prepare_data()
    assert len(prepared) == 7, "the bad ones alone are tried again"


def test_images_without_a_row_are_counted(root: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(root / "train" / "0_left.jpeg", root / "train" / f"{name}.jpeg")
    with pytest.warns(UserWarning, match="3 images in .*train have no row"):
        assert len(make(root).table) == 70


def test_an_unwritable_cache_is_named(root: Path) -> None:
    (root / "file").write_text("")
    with pytest.raises(InputError, match=r"image cache .*file.* cannot be written .*cache_dir"):
        make(root, cache_dir=root / "file").prepare_data()


def test_a_site_of_one_class_is_refused(root: Path) -> None:
    partition = CountPartition([[10, 0], [5, 10]])
    with pytest.raises(InputError, match=r"'site-1' has .* all of the class 'healthy'.*allow_one_class"):
        _ = make(root, sites=2, partition=partition).table
    assert len(make(root, sites=2, partition=partition, allow_one_class=True).sites) == 2


def test_setup_without_preparation_says_what_to_call(root: Path) -> None:
    with pytest.raises(InputError, match=r"call prepare_data\(\) first"):
        make(root).setup("fit")


def test_paths_may_be_strings(root: Path, tmp_path: Path) -> None:
    paths = {"root": root, "labels": root / "trainLabels.csv", "images": root / "train", "cache_dir": tmp_path / "kept"}
    data = FundusDataModule(**{name: str(path) for name, path in paths.items()}, size=32, radius=30)
    data.prepare_data()
    data.setup("test")
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize(
    "settings",
    [{"task": "cancer"}, {"size": 2}, {"radius": 0}, {"eyes": "third"}, {"on_error": "Raise"}, {"sites": []}],
)
def test_refused_settings(root: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        make(root, **settings)


def test_original_photographs_and_small_ones_are_prepared_alike(eyepacs_originals: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("image,level\n10_left,0\n15_left,1\n15_right,2\n16_left,4\n")
    folder = next(path.parent for path in eyepacs_originals.rglob("10_left.jpeg"))
    settings = {"labels": table, "images": folder, "task": "grade", "sites": 1, "allow_one_class": True}
    data = make(tmp_path, **settings, val_fraction=0, test_fraction=0, radius=300, size=256)
    data.prepare_data()
    data.setup("test")
    images, slots = data.pixels(data.table)
    for slot in slots:
        assert images[slot].shape == (256, 256, 3)
        assert (images[slot][:20, :20] == 128).all()
        assert images[slot][64:192, 64:192].std() > 5


@pytest.mark.filterwarnings("ignore:.* images in .* have no row")
def test_blanks_around_a_field_make_no_other_patient_or_hospital(root: Path) -> None:
    rows = [f"{number}_{eye},{number % 2 * 2},P{number}{blank},h{blank}" for number in range(40)
            for eye, blank in (("left", ""), ("right", " "))]  # fmt: skip
    (root / "trainLabels.csv").write_text("\n".join(["image,level,person,hospital", *rows]) + "\n")
    table = make(root, patient_column="person", site_column="hospital", sites=1).table
    assert table["site"].unique().tolist() == ["h"]
    assert table["patient"].nunique() == 40


def test_a_folder_that_is_a_link_out_of_the_collection_is_refused_unless_it_is_named(root: Path) -> None:
    elsewhere = (root / "train").rename(root.parent / "elsewhere")
    (root / "train").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"the folder .*train leads out of"):
        make(root)
    assert len(make(root, images=root / "train").table) == 70


def test_a_spark_in_the_dark_does_not_take_all_memory(root: Path) -> None:
    pixels = np.zeros((2000, 2000, 3), np.uint8)
    pixels[:, 1000:1008] = 255
    cv2.imwrite(str(root / "train" / "4_left.jpeg"), pixels)
    with pytest.raises(InputError, match=r"4_left\.jpeg: it shows no retina: .* is tiny beside the whole"):
        make(root).prepare_data()


def test_worker_processes_that_are_not_forked_map_the_pixels_themselves(root: Path) -> None:
    data = make(root, size=128)
    data.prepare_data()
    data.setup("fit")
    dataset = data.dataset(data.sites, "train")
    sent = pickle.dumps(dataset)
    assert len(sent) < dataset.pixels.nbytes / 10
    copy = pickle.loads(sent)
    assert isinstance(copy.pixels, np.memmap)
    assert torch.equal(copy.__getitems__([3, 5])[0], dataset.__getitems__([3, 5])[0])
