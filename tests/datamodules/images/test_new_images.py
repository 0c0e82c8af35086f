"""New images: what of a folder or a table is one, and what is said of the rest."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fake_mammograms import draw_film, write_dicom
from lit_dist import InputError
from lit_dist.datamodules.images.new_images import NewImages, new_images


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(path)
    return path


def said(found: NewImages) -> dict[str, str]:
    return dict(zip(found.table["image"], found.problems, strict=True))


def test_a_folder_is_searched_to_the_bottom_and_nothing_is_dropped_in_silence(tmp_path: Path) -> None:
    root = tmp_path / "new"
    first = picture(root / "a.png")
    picture(root / "left/a.png")
    picture(root / "Münster ü/фото 1.JPG")
    picture(root / ".hidden/b.png")
    picture(root / "._a.png")
    for name in ("Thumbs.db", "labels.csv", "DICOMDIR"):
        (root / name).write_bytes(b"a,b\n")
    os.symlink(first, root / "inside.png")
    os.symlink("/etc/passwd", root / "out.png")
    os.symlink("nothing", root / "gone.png")
    os.symlink("/tmp", root / "linked")
    os.mkfifo(root / "pipe.png")
    found = new_images(root)
    assert said(found) == {
        "a.png": "",
        "gone.png": "it is a link that leads nowhere",
        "inside.png": "",
        "linked": "it is a link to a folder, which is not followed",
        "out.png": f"the link leads out of {root}; images are read from there alone",
        "pipe.png": "it is neither a file nor a folder",
        "Münster ü/фото 1.JPG": "",
        "left/a.png": "",
    }
    assert found.passed_over == ["._a.png", ".hidden/", "DICOMDIR", "Thumbs.db", "labels.csv"]
    assert [file is None for file in found.files] == [bool(problem) for problem in found.problems]


def test_a_file_without_an_images_suffix_is_known_by_its_beginning(tmp_path: Path) -> None:
    write_dicom(tmp_path / "IM000001", draw_film(1))
    write_dicom(tmp_path / "1.2.840.113619.2", draw_film(2))
    shutil.copy(picture(tmp_path / "a.png"), tmp_path / "SCAN")
    (tmp_path / "notes").write_text("seen today")
    found = new_images(tmp_path)
    assert set(said(found)) == {"IM000001", "1.2.840.113619.2", "a.png", "SCAN"}
    assert found.passed_over == ["notes"]


def test_a_name_that_is_no_text_is_a_row_of_its_own(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    assert said(new_images(tmp_path)) == {"a.png": "", "\\udcff.png": "its name is not UTF-8; rename it"}


def test_a_table_names_files_below_its_folder(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "one/c.png", "two/c.png", "secret.png"):
        picture(tmp_path / "new" / name)
    picture(tmp_path / "out.png")
    names = ["a.png", "sub\\b.png", "b", "c", "d.png", "", "../out.png", str(tmp_path / "out.png"), "a.png", ".x/a.png"]
    table = pd.DataFrame({"id_code": names, "age": range(len(names))})
    table.to_csv(tmp_path / "new/list.csv", index=False, sep=";")
    found = new_images(tmp_path / "new/list.csv", ["image", "id_code"])
    assert found.table["age"].tolist() == [str(number) for number in range(10)]
    assert [bool(problem) for problem in found.problems] == [0, 0, 0, 1, 1, 1, 1, 1, 0, 1]
    assert "may be one/c.png or two/c.png" in found.problems[3]
    assert "leads out of" in found.problems[6]
    assert "leads out of" in found.problems[7]
    with pytest.raises(
        InputError, match=r"has no column 'image'; it has id_code.*; name the one with the images by --col"
    ):
        new_images(tmp_path / "new/list.csv")


def test_one_image_may_be_given_and_what_is_none_is_said(tmp_path: Path) -> None:
    assert said(new_images(picture(tmp_path / "a.png"))) == {"a.png": ""}
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/b.txt").write_text("")
    (tmp_path / "new.xlsx").write_text("")
    for name, message in (
        ("gone", "there is no .*gone: give a folder"),
        ("notes", r"holds no images; it has b\.txt"),
        ("new.xlsx", "save it as CSV"),
    ):
        with pytest.raises(InputError, match=message):
            new_images(tmp_path / name)
