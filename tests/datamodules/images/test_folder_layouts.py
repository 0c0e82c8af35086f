"""The ways in which ImageNetDataModule is told which photographs there are, and of which classes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from coloured_photographs import COLOURS, draw, write
from lit_dist.datamodules import ImageNetDataModule
from lit_dist.utils.errors import InputError


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return write(tmp_path / "flat", "flat")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve photographs of each class in ``images``, with a table of two columns of classes."""
    rows = ["file,animal,legs"]
    for name, colour in COLOURS.items():
        for number in range(12):
            draw(tmp_path / "own/images" / name / f"{number}.JPEG", colour, number)
            rows.append(f"{name}/{number}.JPEG,{name},{2 if name == 'owl' else 4}")
    (tmp_path / "own/labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "own"


def make(root: Path, **settings: Any) -> ImageNetDataModule:
    return ImageNetDataModule(root, **{"sites": 2, "size": 16, "cache_dir": root.parent / "prepared", **settings})


# -- classes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "emu"], r"there is no class 'emu' in .*train, which has 3"),
        (["cat", "cat"], "a class stands twice: 'cat'"),
        (["cat", 0], "a class stands twice: 'cat'"),
        ({"a": ["cat"], "b": ["0-1"]}, "a class stands twice: 'cat'"),
        (["cat", "../train/dog"], r"there is no class '../train/dog'"),
        (["cat", ".."], r"there is no class '..'"),
        (["cat", "/etc"], r"there is no class '/etc'"),
        (["cat", ""], r"there is no class ''"),
        (["cat", 3], r"3 is not the number of a class; .*train has 3, from 0"),
        (["cat", -1], r"-1 is not the number of a class"),
        (["cat", "1-3"], r"there is no class '1-3' in .*train, which has 3"),
        (["2-1"], r"there is no class '2-1'"),
        ([], "empty list"),
        ({"a": []}, "empty list"),
        (1, "classes=1: choose from 2 to 3"),
        (4, "classes=4: choose from 2 to 3"),
    ],
)
def test_classes_that_are_not_there_are_refused(tiny: Path, classes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = make(tiny, classes=classes).table


def test_a_part_of_the_classes_can_be_taken(tiny: Path) -> None:
    data = make(tiny, classes=["owl", "cat"])
    assert data.num_classes == 2
    assert set(data.table["class"]) == {"owl", "cat"}
    assert set(zip(data.table["class"], data.table["label"], strict=True)) == {("owl", 0), ("cat", 1)}
    assert (data.table["split"] == "test").sum() == 12


def test_a_class_that_val_lacks_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "official", "official")
    shutil.rmtree(root / "val" / "dog")
    with pytest.raises(InputError, match=r"there is no folder .*val/dog"):
        _ = make(root).table


def test_joined_classes_are_one(tiny: Path) -> None:
    data = make(tiny, classes={"bird": ["owl"], "beast": ["0-1"]})
    assert data.class_names == ["bird", "beast"]
    found = zip(data.table["image"].str.extract("(cat|dog|owl)")[0].dropna(), data.table["label"], strict=False)
    assert set(found) == {("owl", 0), ("cat", 1), ("dog", 1)}
    assert data.table.groupby(["split", "label"]).size()["test"].tolist() == [6, 12]


@pytest.mark.parametrize(("layout", "tests"), [("tiny", 18), ("plain", 0)])
def test_images_a_class_are_chosen_by_the_seed_and_the_published_test_stays_whole(
    layout: str, tests: int, tmp_path: Path
) -> None:
    root = write(tmp_path / layout, layout)

    def chosen(count: int, seed: int = 0, **settings: Any) -> set[str]:
        table = make(root, images_per_class=count, split_seed=seed, **settings).table
        assert table.groupby("class").size().eq(count + tests // 3).all()
        return set(table["image"])

    assert chosen(10) == chosen(10)
    assert chosen(10) != chosen(10, seed=1)
    assert chosen(10) < chosen(15)
    assert chosen(10, classes=2) < chosen(10)
    assert len(make(root, images_per_class=99).table) == 72 + tests
    with pytest.raises(InputError, match="images_per_class=0 is not a positive number"):
        make(root, images_per_class=0)


# -- ImageNet's development kit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["ILSVRC2012_devkit_t12", "data", "."])
def test_the_kit_may_lie_in_several_places(flat: Path, place: str) -> None:
    expected = make(flat).table
    shutil.move(flat / "ILSVRC2012_devkit_t12/data", flat / "kit")
    shutil.rmtree(flat / "ILSVRC2012_devkit_t12")
    with pytest.raises(InputError, match=r"val holds images that are not in folders of classes.*unpack ILSVRC2012_dev"):
        _ = make(flat).table
    shutil.copytree(flat / "kit", flat / place, dirs_exist_ok=True)
    columns = ["image", "class", "label", "site", "split"]
    assert make(flat).table[columns].equals(expected[columns])


def test_a_part_of_the_classes_has_a_part_of_the_kits_images(flat: Path) -> None:
    table = make(flat, classes=["owl", "dog"]).table
    assert table[table["split"] == "test"].groupby("class").size().to_dict() == {"owl": 6, "dog": 6}


# -- a table -----------------------------------------------------------------------------------------------------------


def test_a_table_says_the_classes_by_any_column(table: Path) -> None:
    data = make(table, image_column="file", label_column="animal")
    assert data.class_names == ["cat", "dog", "owl"]
    assert (data.table["image"].str.partition("/")[0] == data.table["class"]).all()
    data.prepare_data()
    data.setup("fit")
    assert len(data.pixels(data.table)[1]) == 36
    legs = make(table, image_column="file", label_column="legs", classes=["4", "2"])
    assert legs.table["label"].value_counts().to_dict() == {0: 24, 1: 12}


def test_numbers_are_sorted_as_numbers_and_suffixes_may_lack(table: Path) -> None:
    names = [path.relative_to(table / "images").with_suffix("") for path in sorted(table.rglob("*.JPEG"))]
    rows = [f"{name},{10 * number // len(names) + 3}" for number, name in enumerate(names)]
    (table / "labels.csv").write_text("image,label\n" + "\n".join(rows))
    data = make(table)
    assert data.class_names == [str(number) for number in range(3, 13)]
    assert set(data.table["image"]) == {f"{name}.JPEG" for name in names}


def test_a_table_elsewhere_goes_before_folders(tiny: Path, table: Path) -> None:
    data = make(tiny, labels=table / "labels.csv", images=table / "images", image_column="file", label_column="animal")
    assert len(data.table) == 36


@pytest.mark.parametrize("place", ["train", "val", "val/cat"])
def test_folders_that_are_links_out_of_the_collection_are_refused(tmp_path: Path, place: str) -> None:
    root = write(tmp_path / "root", "official")
    elsewhere = (root / place).rename(tmp_path / "elsewhere")
    (root / place).symlink_to(elsewhere)
    with pytest.raises(InputError, match=f"the (folder|link) .*{place}.* leads out of"):
        make(root).table  # noqa: B018  # it is read when it is asked for


def test_patients_and_hospitals_come_from_columns(table: Path) -> None:
    path = table / "labels.csv"
    head, *rows = path.read_text().splitlines()
    more = [f"{row},p{number // 2},{'ab'[number // 2 % 2]}" for number, row in enumerate(rows)]
    path.write_text("\n".join([f"{head},person,hospital", *more]) + "\n")
    columns = {"image_column": "file", "label_column": "legs", "patient_column": "person", "site_column": "hospital"}
    data = make(table, classes=["2", "4"], **columns)
    assert data.sites == ["a", "b"]
    found = data.table.set_index("image")
    assert (found["patient"].nunique(), found["site"]["cat/2.JPEG"], found["patient"]["cat/2.JPEG"]) == (18, "b", "p1")
    assert (found.groupby("patient")["split"].nunique() == 1).all()
