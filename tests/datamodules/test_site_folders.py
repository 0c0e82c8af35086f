import shutil
from pathlib import Path
from typing import Any

import pytest

from coloured_photographs import COLOURS, draw, write
from lit_dist.datamodules import ImageNetDataModule
from lit_dist.utils.errors import InputError

SITES = ("mgh", "ucsf")


def make(root: Path, **settings: Any) -> ImageNetDataModule:
    return ImageNetDataModule(root, **{"size": 16, "cache_dir": root.parent / "prepared", **settings})


def write_tree(root: Path, pattern: str, sites: tuple[str, ...] = SITES, images: int = 10) -> Path:
    for place, site in enumerate(sites):
        for name, colour in COLOURS.items():
            for number in range(images):
                path = root / pattern.format(site=site, label=name) / f"{site}_{number}.JPEG"
                draw(path, colour, 100 * place + number)
    return root


@pytest.mark.parametrize("pattern", ["{site}/{label}", "{label}/{site}", "train/{site}/{label}", "{site}/{label}/deep"])
def test_hospitals_are_not_taken_for_classes(pattern: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", pattern)
    with pytest.raises(
        InputError, match=r"the folders .* of the same names in them, such as .*site/class; .*class/site"
    ):
        _ = make(root).table


def test_a_class_that_a_hospital_lacks_changes_nothing(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", "{site}/{label}")
    shutil.rmtree(root / "mgh/owl")
    with pytest.raises(InputError, match=r"folders mgh, ucsf in .* such as cat, dog"):
        _ = make(root).table
    data = make(root, folders="site/class")
    assert data.class_names == ["cat", "dog", "owl"]
    assert data.table.groupby("site")["label"].nunique().to_dict() == {"mgh": 2, "ucsf": 3}


@pytest.mark.parametrize(
    ("pattern", "folders"),
    [
        ("{site}/{label}", "site/class"),
        ("{label}/{site}", "class/site"),
        ("train/{site}/{label}", "site/class"),
        ("{site}/{label}/images", "site/class"),
    ],
)
def test_sites_and_classes_are_read_from_folders(pattern: str, folders: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", pattern)
    (root / "@eaDir/cat").mkdir(parents=True)
    data = make(root, folders=folders)
    assert (data.sites, data.class_names) == (list(SITES), list(COLOURS))
    table = data.table
    assert all(site in image and data.class_names[label] in image
               for site, image, label in zip(table["site"], table["image"], table["label"], strict=True))  # fmt: skip
    assert len(table) == 60


@pytest.mark.parametrize("outer", ["", "train/"])
@pytest.mark.parametrize(
    ("pattern", "folders", "of"),
    [
        ("{label}", "class/patient", {""}),  # the sites are simulated
        ("{site}/{label}", "site/class/patient", {"mgh/", "ucsf/"}),
        ("{label}/{site}", "class/site/patient", {"mgh/", "ucsf/"}),
    ],
)
def test_patients_may_have_a_folder_each(
    outer: str, pattern: str, folders: str, of: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "tree"
    names = [f"p{number}" for number in range(8)]
    for patient in names:
        write_tree(root, f"{outer}{pattern}/{patient}/left", images=2)
        write_tree(root, f"{outer}{pattern}/{patient}/right", images=1)
    for number, path in enumerate(sorted(root.rglob("*.JPEG"))):
        draw(path, COLOURS["cat"], number)  # no two alike
    with caplog.at_level("INFO"):
        table = make(root, folders=folders, sites=2).table
    assert "one patient" not in caplog.text
    assert set(table["patient"]) == {site + name for site in of for name in names}
    assert table.groupby("patient")["split"].nunique().max() == 1
    assert table.groupby("patient")["label"].nunique().min() == 3  # a patient may have images of several classes
    draw(root / f"{outer}{pattern.format(label='cat', site='mgh')}/0.JPEG", COLOURS["cat"], 1000)
    with pytest.raises(InputError, match=rf"0.JPEG lies beside the folders of patients that folders={folders} needs"):
        _ = make(root, folders=folders, sites=2).table


def test_the_folders_may_be_said_to_be_classes(tmp_path: Path) -> None:
    data = make(write_tree(tmp_path / "tree", "{label}/{site}"), folders="class", sites=2)
    assert data.class_names == list(COLOURS)
    assert len(data.table) == 60


def test_a_test_set_of_the_sites(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", "train/{site}/{label}")
    for site in SITES:
        for name, colour in COLOURS.items():
            draw(root / "val" / site / name / "1.JPEG", colour, 1000 + SITES.index(site))
    table = make(root, folders="site/class").table
    assert table[table["split"] == "test"].groupby("site").size().to_dict() == {"mgh": 3, "ucsf": 3}


def test_an_image_beside_the_inner_folders_is_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", "{site}/{label}")
    draw(root / "mgh/1.JPEG", COLOURS["cat"], 1)
    with pytest.raises(InputError, match=r"mgh holds 1.JPEG, beside the folders that folders=site/class needs"):
        _ = make(root, folders="site/class").table


def test_a_test_folder_that_is_not_read_is_said(tmp_path: Path) -> None:
    root = write(tmp_path / "official", "official")
    shutil.copytree(root / "val", root / "test")
    with pytest.warns(UserWarning, match=r"test is not used: the test set is val"):
        _ = make(root, sites=2).table


def test_images_beside_the_folders_that_are_read_are_said(tmp_path: Path) -> None:
    root = write(tmp_path / "plain", "plain")
    shutil.move(root, tmp_path / "tree/train")
    (tmp_path / "tree/notes").mkdir()
    _ = make(tmp_path / "tree").table
    shutil.copytree(tmp_path / "tree/train", tmp_path / "tree/Testing")
    with pytest.warns(UserWarning, match=r"tree has images in Testing that are not used: .* to test on from val"):
        _ = make(tmp_path / "tree").table


def test_a_class_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "plain", "plain")
    try:
        (root / "s\udcffk").mkdir()
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        make(root)
