import json
import os
import time
from pathlib import Path

import pytest

from lit_dist.datamodules.images import image_index
from lit_dist.datamodules.images.image_index import ImageFile, ImageIndex
from lit_dist.utils.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three folders of two images each, one in another."""
    for folder in ("a", "a/deep", "b"):
        (tmp_path / "root" / folder).mkdir(parents=True)
        for name in ("1.png", "2.PNG", "words.txt"):
            (tmp_path / "root" / folder / name).touch()
    time.sleep(0.05)  # longer than the tick below
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def short_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_index, "_TICK", 20_000_000)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are read, by name."""
    folders: list[str] = []
    whole = image_index.image_entries

    def noted(folder: str, root: Path, suffixes: tuple[str, ...]) -> tuple[list[str], ...]:
        folders.append(os.path.relpath(folder, root))
        return whole(folder, root, suffixes)

    monkeypatch.setattr(image_index, "image_entries", noted)
    return folders


def listed(root: Path) -> list[str]:
    index = ImageIndex(root, (".png",), root.parent / "cache")
    files = index.files()
    index.save()
    return files


ALL = ["a/1.png", "a/2.PNG", "a/deep/1.png", "a/deep/2.PNG", "b/1.png", "b/2.PNG"]


def test_a_second_start_reads_no_folder(root: Path, read: list[str]) -> None:
    assert listed(root) == ALL
    assert read == [".", "a", "a/deep", "b"]
    read.clear()
    assert listed(root) == ALL
    assert read == []


def test_only_folders_in_which_files_came_or_went_are_read_again(root: Path, read: list[str]) -> None:
    listed(root)
    (root / "a/deep/3.png").touch()
    (root / "b/1.png").rename(root / "b/0.png")
    read.clear()
    assert listed(root) == [*ALL[:4], "a/deep/3.png", "b/0.png", "b/2.PNG"]
    assert read == ["a/deep", "b"]


def test_a_folder_that_goes_and_one_that_comes(root: Path) -> None:
    listed(root)
    (root / "a/deep").rename(root / "b/moved")
    assert listed(root) == ["a/1.png", "a/2.PNG", "b/1.png", "b/2.PNG", "b/moved/1.png", "b/moved/2.PNG"]


def test_a_time_that_was_set_back_hides_nothing(root: Path) -> None:
    listed(root)
    before = (root / "b").stat()
    (root / "b/3.png").touch()
    os.utime(root / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "b/3.png" in listed(root)


def test_a_folder_that_may_still_change_within_the_clocks_tick_is_read_again(root: Path, read: list[str]) -> None:
    (root / "b/3.png").touch()
    listed(root)
    read.clear()
    listed(root)
    assert read == ["b"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": [[1], []]}', b"\xff", b'{"": null}', b'{"": [[0], [], [], 1]}']
)
def test_a_damaged_index_is_made_again(root: Path, content: bytes) -> None:
    listed(root)
    (path,) = (root.parent / "cache/listings").iterdir()
    path.write_bytes(content)
    assert listed(root) == ALL
    assert set(json.loads(path.read_bytes())) == {"", "a", "a/deep", "b"}


def test_another_root_or_other_suffixes_have_an_index_of_their_own(root: Path) -> None:
    listed(root)
    assert ImageIndex(root, (".txt",), root.parent / "cache").files("b") == ["b/words.txt"]
    assert ImageIndex(root / "a", (".png",), root.parent / "cache").files("deep") == ["deep/1.png", "deep/2.PNG"]


def test_where_nothing_can_be_written_folders_are_read_each_time(root: Path, read: list[str]) -> None:
    (root.parent / "cache").write_text("a file")
    assert listed(root) == listed(root) == ALL
    assert read == [".", "a", "a/deep", "b"] * 2


def test_a_file_is_what_a_path_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    file = ImageFile(str(path))
    assert (str(file), file.stat(), file.read_bytes()) == (str(path), path.stat(), b"content")


def test_a_name_that_is_not_utf_8_is_refused(root: Path) -> None:
    with open(os.fsencode(root / "a") + b"/caf\xe9.png", "wb"):
        pass
    with pytest.raises(InputError, match=r"a: the name 'caf\\udce9\.png' is not UTF-8; rename it"):
        listed(root)


def test_images_of_kinds_that_are_not_read_are_counted(root: Path) -> None:
    for name in ("b/3.webp", "b/4.WEBP", "a/deep/5.gif", "a/._6.gif"):
        (root / name).touch()
    for _ in range(2):  # read, and from the listing that is kept
        index = ImageIndex(root, (".png",), root.parent / "cache")
        assert index.files() == ALL
        with pytest.warns(UserWarning, match=r"are 1 images \.gif, 2 images \.webp, which are not read"):
            index.report()
        index.save()
    for file in (root / "b").glob("*.[pP]*"):
        file.unlink()
    with pytest.raises(InputError, match=r"holds no images \(\.png\), but 2 images \.webp, which are not read"):
        ImageIndex(root, (".png",)).files("b")
