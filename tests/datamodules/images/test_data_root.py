import shutil
from pathlib import Path

import pytest

from coloured_photographs import write
from damaged import COLLECTIONS
from fake_fundus import write_fundus
from fake_mammograms import write_cbis_ddsm
from lit_dist.datamodules import FundusDataModule, ImageNetDataModule, MammographyDataModule
from lit_dist.utils.errors import InputError

LEFT = (
    *(".ipynb_checkpoints/a-checkpoint", "@eaDir/a/SYNOPHOTO_THUMB_M", "__MACOSX/._a", "#recycle/a", "lost+found/a"),
    *("$RECYCLE.BIN/S-1/$Ra", ".Trash-1000/files/a", ".AppleDouble/a", "System Volume Information/a", ".git/a"),
    *("@__thumb/a", "__macosx/a", "@Recycle/a", ".@__thumb/a", "FOUND.000/a", "._a", ".a", "SYNOPHOTO_THUMB_XL_a"),
)


def litter(root: Path) -> None:
    """Leave a copy of a file of each kind in every folder of images, as other programs do."""
    suffixes = (".png", ".pgm", ".dcm", ".jpeg", ".jpg")
    first: dict[Path, Path] = {}
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in suffixes:
            first.setdefault(file.parent, file)
    for folder in {root, *first}:
        file = first.get(folder) or next(iter(first.values()))
        for name in LEFT:
            copy = folder / f"{name}{file.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
            shutil.copy(file, copy.parent / file.name) if copy.parent != folder else None


@pytest.mark.parametrize("name", COLLECTIONS)
def test_what_other_programs_leave_changes_nothing(name: str, tmp_path: Path) -> None:
    root = COLLECTIONS[name].copy(tmp_path / "root", prepared=False)
    before = COLLECTIONS[name].make(root).read_images()
    litter(root)
    data = COLLECTIONS[name].make(root)
    after = data.read_images()
    assert after["image"].tolist() == before["image"].tolist()
    assert list(map(str, after[data.source])) == list(map(str, before[data.source]))


def test_a_thumbnail_does_not_take_the_place_of_a_crop(tmp_path: Path) -> None:
    root = write_cbis_ddsm(tmp_path, patients=2, crops=True)
    data = MammographyDataModule(root, crop=True, sites=1)
    before = data.read_images()["film"].tolist()
    litter(root)
    assert data.read_images()["film"].tolist() == before


def test_what_was_passed_over_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = ImageNetDataModule(write(tmp_path, "plain", train=6), sites=2)
    litter(tmp_path)
    with caplog.at_level("INFO"):
        data.read_images()
    assert ".ipynb_checkpoints (3), " in caplog.text
    assert "9 hidden files or thumbnails" in caplog.text


def test_a_table_that_names_such_a_file_is_refused(tmp_path: Path) -> None:
    root = write_fundus(tmp_path, patients=8)
    (root / "train/.ipynb_checkpoints").mkdir()
    shutil.copy(root / "train/0_left.jpeg", root / "train/.ipynb_checkpoints/a.jpeg")
    with (root / "trainLabels.csv").open("a") as file:
        file.write(".ipynb_checkpoints/a,0\n")
    with pytest.raises(InputError, match=r"row 18: there is no image .*a'.* left by another program"):
        FundusDataModule(root).read_images()
