import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from lit_dist.datamodules import FundusDataModule, ImageNetDataModule, MammographyDataModule
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.utils.errors import InputError

FILES = ["mgh/2019/a.JPG", "mgh/b c.png", "ucsf/b c.png", "ucsf/café.jpeg", "d.jpg", "d.png", "masks/e.png", "A.1.png"]
MEANT = {
    "mgh/2019/a.jpg": 0,
    "2019/a.jpg": 0,
    "a.jpg": 0,
    "a.jpeg": 0,
    "a": 0,
    "mgh\\2019\\a": 0,
    "./mgh//2019/a.JPG": 0,
    "mgh/b c": 1,
    "ucsf\\b c.PNG": 2,
    "ucsf/b c.jpg": 2,
    unicodedata.normalize("NFD", "café"): 3,
    unicodedata.normalize("NFD", "ucsf/café.jpg"): 3,
    "d.jpg": 4,
    "A.1": 7,
}


@pytest.mark.parametrize("name", MEANT)
def test_names_are_found(name: str) -> None:
    assert NamedFiles(FILES, Path("images")).find(name, "row 2") == FILES[MEANT[name]]


@pytest.mark.parametrize("name", ["sf/b c.png", "2018/a.jpg", "e.jpg", "A", "c.png", "mgh"])
def test_others_are_not_there(name: str) -> None:
    assert NamedFiles(FILES, Path("images")).find(name, "row 2") is None


@pytest.mark.parametrize(("name", "both"), [("b c", "mgh/b c.png or ucsf/b c.png"), ("d", "d.jpg or d.png")])
def test_a_name_that_may_be_two_files_is_refused_with_both(name: str, both: str) -> None:
    with pytest.raises(InputError, match=f"row 2: {name!r} may be {both} in images; write"):
        NamedFiles(FILES, Path("images")).find(name, "row 2")


@pytest.mark.parametrize("kind", [FundusDataModule, ImageNetDataModule, MammographyDataModule])
def test_each_collection_finds_photographs_in_folders(kind: type, tmp_path: Path) -> None:
    names = [f"{folder}/a{number}.png" for folder in ("mgh/2019", "ucsf") for number in range(10)]
    for place, name in enumerate(names):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (place, 0, 0)).save(path)
    column = "level" if kind is FundusDataModule else "label"
    rows = [f"{name[:-4] if place % 2 else name},{place % 2}" for place, name in enumerate(names)]
    rows = [row.replace("/", "\\") if place % 3 else row for place, row in enumerate(rows)]
    (tmp_path / "labels.csv").write_text("\n".join([f"image,{column}", *rows]) + "\n")
    settings = {"task": "any"} if kind is FundusDataModule else {}
    data = kind(tmp_path, images=tmp_path / "images", cache_dir=tmp_path / "cache", sites=2, **settings)
    table = data.read_images()
    assert [str(file).removeprefix(f"{tmp_path}/images/") for file in table[data.source]] == names


@pytest.mark.parametrize(("folders", "patients"), [(["left", "right"], 2), (["mgh", "ucsf"], 4)])
def test_folders_tell_patients_apart_where_names_repeat(folders: list[str], patients: int, tmp_path: Path) -> None:
    rows = ["image,level"]
    for folder in folders:
        (tmp_path / "images" / folder).mkdir(parents=True)
        for number in range(2):
            name = f"{folder}/{number}_{folder if 'left' in folders else 'left'}"
            Image.new("RGB", (8, 8)).save(tmp_path / f"images/{name}.png")
            rows.append(f"{name},{2 * number}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    table = FundusDataModule(tmp_path, cache_dir=tmp_path / "cache").read_images()
    assert table["patient"].nunique() == patients
