import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coloured_photographs import write
from lit_dist.datamodules import ImageNetDataModule
from lit_dist.datamodules.images.copies import content_numbers
from lit_dist.datamodules.images.image_index import ImageFile
from lit_dist.datamodules.splits import CONTENT, NUMBER, number_patients, write_splits
from lit_dist.utils.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty cats, dogs and owls, eight of each under a second name, too."""
    root = write(tmp_path / "plain", "plain", train=20)
    for name in ("cat", "dog", "owl"):
        for number in range(8):
            shutil.copy(root / f"{name}/{name}_{number}.JPEG", root / f"{name}/copy_{number}.jpg")
    return root


def make(root: Path, **settings: Any) -> ImageNetDataModule:
    defaults = {"sites": 3, "size": 16, "cache_dir": root.parent / "prepared"}
    return ImageNetDataModule(root, **{**defaults, **settings})


def torn(root: Path, table: pd.DataFrame) -> bool:
    """Whether a content is in two places."""
    content = [(root / image).read_bytes() for image in table["image"]]
    places = table.groupby(content)[["site", "split"]].nunique()
    return bool((places > 1).to_numpy().any())


def test_copies_are_in_one_place_whether_or_not_they_are_prepared(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make(root)
    with caplog.at_level("INFO"):
        table = data.table
    assert "24 of 84 images are copies of others, byte for byte, such as cat/c" in caplog.text
    assert (len(table), torn(root, table), CONTENT in table) == (84, False, False)
    data.prepare_data()
    again = make(root).table
    assert again[["image", "site", "split"]].equals(table[["image", "site", "split"]])


def test_what_some_files_of_are_prepared(root: Path) -> None:
    make(root, classes=["cat", "dog"]).prepare_data()
    shutil.copy(root / "cat/cat_9.JPEG", root / "owl/copied.JPEG")
    with pytest.warns(UserWarning, match=r"1 images have copies of another label: cat/cat_9.JPEG \(cat\) and owl/cop"):
        table = make(root).table
    assert not torn(root, table)


def test_the_first_of_copies_stays_and_none_where_labels_differ(root: Path) -> None:
    shutil.copy(root / "cat/cat_9.JPEG", root / "owl/copied.JPEG")
    data = make(root, on_duplicate="drop")
    with pytest.warns(UserWarning, match="one of the labels is wrong"):
        table = data.table
    assert len(table) == 59
    assert not table["image"].isin(["cat/cat_9.JPEG", "owl/copied.JPEG", "cat/copy_0.jpg"]).any()
    assert data.left_out_of == {("", "copies of others (on_duplicate=drop)"): 26}


def test_copies_may_be_refused_or_kept(root: Path) -> None:
    with pytest.raises(InputError, match=r"24 of 84 images are copies .*choose on_duplicate=group or drop"):
        _ = make(root, on_duplicate="raise").table
    with pytest.warns(UserWarning, match="24 of 84 images are copies .*on_duplicate=keep"):
        assert torn(root, make(root, on_duplicate="keep").table)


def test_copies_in_two_splits_of_a_file_are_refused_or_the_first_is_kept(root: Path) -> None:
    with pytest.warns(UserWarning, match="copies"):
        write_splits(make(root, on_duplicate="keep").table, root.parent / "splits.csv")
    with pytest.raises(InputError, match=r"more than one (site|split): .* and .*copy_\d.jpg \(.*on_duplicate=drop"):
        _ = make(root, splits=root.parent / "splits.csv").table
    table = make(root, splits=root.parent / "splits.csv", on_duplicate="drop").table
    assert (len(table), torn(root, table)) == (60, False)


def test_a_copy_of_an_image_of_the_published_test_is_left_out(tmp_path: Path) -> None:
    root = write(tmp_path / "official", "official", train=12)
    shutil.copy(next((root / "val/cat").iterdir()), root / "train/cat/known.JPEG")
    with pytest.warns(UserWarning, match="1 images are copies of images of the published test set, and left out"):
        table = make(root).table
    assert (table["split"] == "test").sum() == 18
    assert not table["image"].str.endswith("known.JPEG").any()


def test_copies_at_two_real_sites_are_refused_with_both(root: Path) -> None:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.JPEG"))
    rows = [f"{name},{name[:3]},{'mgh' if place % 2 else 'ucsf'}" for place, name in enumerate(names)]
    (root / "labels.csv").write_text("\n".join(["image,label,site", *rows, "cat/copy_0.jpg,cat,bwh"]) + "\n")
    with pytest.raises(InputError, match=r"more than one site: .*cat/cat_0.JPEG \(.* and cat/copy_0.jpg \(bwh\)"):
        _ = make(root, site_column="site").table


def test_patients_that_copies_hold_together_are_one() -> None:
    patients = pd.DataFrame({"patient": list("edcbaabf"), CONTENT: [0, 1, 2, 1, 3, 2, 4, 5]})
    assert number_patients(patients)[NUMBER].tolist() == [4, 1, 0, 1, 0, 0, 1, 5]


def test_only_files_that_may_be_copies_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [b"a" * 9000, b"a" * 9000, b"a" * 9001, b"a" * 4500 + b"b" + b"a" * 4499, b"b", b"c", b"c", b"", b""]
    files = [ImageFile(str(tmp_path / str(number))) for number in range(len(contents) + 1)]
    for file, content in zip(files, contents, strict=False):
        Path(file.path).write_bytes(content)
    read: list[str] = []
    whole = ImageFile.read_bytes
    monkeypatch.setattr(ImageFile, "read_bytes", lambda file: read.append(Path(file.path).name) or whole(file))
    numbers = content_numbers(files, np.full(len(files), -1), dict)
    assert numbers.tolist() == [0, 0, 2, 3, 4, 5, 5, 7, 8, 9]
    assert sorted(read) == ["0", "1", "5", "6"]
