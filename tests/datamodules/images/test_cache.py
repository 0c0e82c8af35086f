import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lit_dist.datamodules.images.cache import PixelCache
from lit_dist.datamodules.images.cache_index import CacheIndex
from lit_dist.utils.errors import InputError

SHAPE = (4, 4, 3)


def write(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.img" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number % 256, number // 256]))
    return paths


def prepare(content: bytes) -> NDArray[np.uint8]:
    return np.full(SHAPE, content[0], dtype=np.uint8)


def cache(tmp_path: Path, **settings: int) -> PixelCache:
    return PixelCache(tmp_path / "cache", settings, SHAPE)


def values(pixels: PixelCache, paths: list[Path]) -> list[int]:
    slots = pixels.find(paths)
    assert (slots >= 0).all()
    return pixels.open()[slots, 0, 0, 0].tolist()


def test_images_are_found_again(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 20)
    assert cache(tmp_path).build(paths, prepare)[1] == {}
    assert values(cache(tmp_path), paths[::-1]) == list(range(20))[::-1]
    assert not cache(tmp_path).open().flags.writeable


def test_other_settings_have_another_cache(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 3)
    cache(tmp_path, size=1).build(paths, prepare)
    assert cache(tmp_path, size=2).find(paths).tolist() == [-1, -1, -1]


def database(text: str) -> Callable[[Path], object]:
    """Replace the index by a database that the statements make."""

    def damage(folder: Path) -> None:
        (folder / "index.sqlite").unlink()
        with closing(sqlite3.connect(folder / "index.sqlite")) as other:
            other.executescript(text)

    return damage


def overwrite(folder: Path) -> None:
    path = folder / "index.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"x" * (len(content) - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "pixels.u8").write_bytes(b"short"),
        lambda folder: (folder / "pixels.u8").unlink(),
        lambda folder: (folder / "index.sqlite").write_text("{"),
        lambda folder: (folder / "index.sqlite").write_text(""),
        lambda folder: (folder / "index.sqlite").write_bytes((folder / "index.sqlite").read_bytes()[:5000]),
        overwrite,
        database("CREATE TABLE files (path)"),
        database("CREATE TABLE images (slot)"),
        lambda folder: (folder / "index.sqlite").unlink(),
    ],
)
def test_a_damaged_cache_is_built_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    paths = write(tmp_path / "images", 5)
    pixels = cache(tmp_path)
    pixels.build(paths, prepare)
    damage(pixels.folder)
    assert (cache(tmp_path).find(paths) < 0).all()
    cache(tmp_path).build(paths, prepare)
    assert values(cache(tmp_path), paths) == list(range(5))


def test_a_file_that_changes_after_it_was_prepared_is_not_found_until_built_again(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 3)
    cache(tmp_path).build(paths, prepare)
    paths[1].write_bytes(b"\x63\x00")
    assert cache(tmp_path).find(paths).tolist() == [0, -1, 2]
    cache(tmp_path).build(paths, prepare)
    assert values(cache(tmp_path), paths) == [0, 0x63, 2]


def build_slowly(root: Path, paths: list[Path]) -> None:
    def slow(content: bytes) -> NDArray[np.uint8]:
        time.sleep(0.002)
        return prepare(content)

    import lit_dist.datamodules.images.cache as module

    module._SAVE_EVERY = 0.02
    cache(root).build(paths, slow, workers=1)


@pytest.mark.parametrize("after", [0.1, 0.2, 0.3])
def test_a_killed_build_resumes_and_uses_nothing_half_written(tmp_path: Path, after: float) -> None:
    paths = write(tmp_path / "images", 250)
    process = multiprocessing.get_context("fork").Process(target=build_slowly, args=(tmp_path, paths))
    process.start()
    time.sleep(after)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    done: list[int] = []
    pixels = cache(tmp_path)
    before = CacheIndex(pixels.folder / "index.sqlite").images()
    pixels.build(paths, lambda content: (done.append(1), prepare(content))[1])
    assert len(done) == 250 - len(before)
    assert values(cache(tmp_path), paths) == [number % 256 for number in range(250)]


def test_two_processes_build_one_cache(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 120)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build_slowly, args=(tmp_path, part)) for part in (paths[:80], paths[40:])]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert values(cache(tmp_path), paths) == [number % 256 for number in range(120)]


def test_failures_are_returned_and_the_rest_is_kept(tmp_path: Path) -> None:
    def picky(content: bytes) -> NDArray[np.uint8]:
        if content[0] == 2:
            raise ValueError("two is not good")
        return prepare(content)

    paths = write(tmp_path / "images", 4)
    slots, failures = cache(tmp_path).build([*paths, tmp_path / "gone"], picky)
    assert slots.tolist() == [0, 1, -1, 2, -1]
    assert failures == {
        paths[2]: "two is not good",
        tmp_path / "gone": f"[Errno 2] No such file or directory: '{tmp_path / 'gone'}'",
    }
    assert cache(tmp_path).find(paths).tolist() == [0, 1, -1, 2]


def test_only_the_user_can_look_into_the_cache(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 1)
    pixels = cache(tmp_path)
    pixels.build(paths, prepare)
    assert pixels.folder.stat().st_mode & 0o777 == 0o700


def test_pixels_that_have_changed_are_found_and_prepared_again(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 9)
    pixels = cache(tmp_path)
    pixels.build(paths, prepare)
    assert pixels.check() == 0
    with (pixels.folder / "pixels.u8").open("r+b") as file:
        file.seek(4 * pixels.image_bytes + 7)
        file.write(b"\xff")
    assert cache(tmp_path).check() == 1
    assert cache(tmp_path).find(paths).tolist() == [0, 1, 2, 3, -1, 5, 6, 7, 8]
    cache(tmp_path).build(paths, prepare)
    assert values(cache(tmp_path), paths) == list(range(9))
    assert cache(tmp_path).check() == 0


def test_a_disk_without_room_is_refused_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(tmp_path / "images", 100)
    cache(tmp_path).build(paths[:60], prepare)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 40 * 48 - 1))
    with pytest.raises(InputError, match=r"preparing 40 images takes up to 0\.00 GB in .* are free"):
        cache(tmp_path).build(paths, lambda content: pytest.fail("it was prepared"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 40 * 48))
    assert cache(tmp_path).build(paths, prepare)[1] == {}


def test_a_cache_that_is_complete_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 5)
    cache(tmp_path).build(paths, prepare)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path / "cache", *cache(tmp_path).folder.iterdir()]}
    assert cache(tmp_path).build(paths, prepare)[1] == {}
    assert values(cache(tmp_path), paths) == list(range(5))
    after = {path: path.stat().st_mtime_ns for path in [tmp_path / "cache", *cache(tmp_path).folder.iterdir()]}
    assert before == after


def test_a_database_that_another_holds_is_no_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path / "images", 3)
    cache(tmp_path).build(paths, prepare)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **{**kwargs, "timeout": 0.1}))
    with closing(connect(cache(tmp_path).folder / "index.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"index\.sqlite cannot be used: database is locked"):
            cache(tmp_path).find(paths)
    assert values(cache(tmp_path), paths) == [0, 1, 2]


def test_what_takes_all_memory_is_a_failure_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(content: bytes) -> NDArray[np.uint8]:
        if content[0] == 1:
            raise MemoryError
        if content[0] == 2:
            cv2.resize(np.zeros((9, 9), np.uint8), (2**30, 2**30))
        return prepare(content)

    paths = write(tmp_path / "images", 4)
    monkeypatch.setattr("lit_dist.datamodules.images.cache._MOST_BYTES", 10)
    paths[3].write_bytes(b"x" * 11)
    slots, failures = cache(tmp_path).build(paths, greedy)
    assert slots.tolist() == [0, -1, -1, -1]
    assert failures[paths[1]] == "it cannot be prepared: the memory does not suffice"
    assert "it cannot be prepared: OpenCV" in failures[paths[2]]
    assert failures[paths[3]] == "it has more than 0.00 GB, which no image has"


def test_what_another_process_has_open_stays_as_it_is(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 6)
    pixels = cache(tmp_path)
    pixels.build(paths, prepare)
    before = pixels.open()
    with (pixels.folder / "pixels.u8").open("r+b") as file:
        file.write(b"\xff" * pixels.image_bytes * 6)
    damaged = before.copy()
    assert cache(tmp_path).check() == 6
    cache(tmp_path).build(paths[::-1], prepare)
    assert values(cache(tmp_path), paths) == list(range(6))
    assert (before == damaged).all(), "no other image has come into a slot that is in use"
