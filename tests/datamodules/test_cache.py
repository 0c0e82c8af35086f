import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lit_dist.datamodules.cache import PixelCache
from lit_dist.errors import InputError

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
    images, slots = pixels.open(paths)
    return [int(images[slot][0, 0, 0]) for slot in slots]


def test_images_are_found_again(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 20)
    assert cache(tmp_path).build(paths, prepare) == {}
    assert values(cache(tmp_path), paths[::-1]) == list(range(20))[::-1]
    assert not cache(tmp_path).open(paths)[0].flags.writeable


def test_other_settings_have_another_cache(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 3)
    cache(tmp_path, size=1).build(paths, prepare)
    with pytest.raises(InputError, match="not in the cache"):
        cache(tmp_path, size=2).open(paths)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "pixels.u8").write_bytes(b"short"),
        lambda folder: (folder / "pixels.u8").unlink(),
        lambda folder: (folder / "index.json").write_text("{"),
        lambda folder: (folder / "index.json").write_text("[]"),
        lambda folder: (folder / "index.json").write_text('{"slots": {}, "files": {"a": 1}}'),
        lambda folder: (folder / "index.json").write_text('{"slots": 3, "files": 4}'),
        lambda folder: (folder / "index.json").unlink(),
    ],
)
def test_a_damaged_cache_is_built_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    paths = write(tmp_path / "images", 5)
    pixels = cache(tmp_path)
    pixels.build(paths, prepare)
    damage(pixels.folder)
    with pytest.raises(InputError):
        cache(tmp_path).open(paths)
    cache(tmp_path).build(paths, prepare)
    assert values(cache(tmp_path), paths) == list(range(5))


def test_a_file_that_changes_after_it_was_prepared_is_refused_until_built_again(tmp_path: Path) -> None:
    paths = write(tmp_path / "images", 3)
    cache(tmp_path).build(paths, prepare)
    paths[1].write_bytes(b"\x63\x00")
    with pytest.raises(InputError, match=r"1\.img is not in the cache .*or was changed"):
        cache(tmp_path).open(paths)
    cache(tmp_path).build(paths, prepare)
    assert values(cache(tmp_path), paths) == [0, 0x63, 2]


def build_slowly(root: Path, paths: list[Path]) -> None:
    def slow(content: bytes) -> NDArray[np.uint8]:
        time.sleep(0.002)
        return prepare(content)

    import lit_dist.datamodules.cache as module

    module._SAVE_EVERY = 0.02
    cache(root).build(paths, slow, workers=1)


@pytest.mark.parametrize("after", [0.1, 0.2, 0.3])
def test_a_killed_build_goes_on_and_uses_nothing_half_written(tmp_path: Path, after: float) -> None:
    paths = write(tmp_path / "images", 250)
    process = multiprocessing.get_context("fork").Process(target=build_slowly, args=(tmp_path, paths))
    process.start()
    time.sleep(after)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    done: list[int] = []
    pixels = cache(tmp_path)
    before = (
        json.loads((pixels.folder / "index.json").read_text())["slots"]
        if (pixels.folder / "index.json").exists()
        else {}
    )
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
    assert cache(tmp_path).build([*paths, tmp_path / "gone"], picky) == {
        paths[2]: "two is not good",
        tmp_path / "gone": f"[Errno 2] No such file or directory: '{tmp_path / 'gone'}'",
    }
    assert cache(tmp_path).holds(paths).tolist() == [True, True, False, True]


def test_only_the_user_can_look_into_the_cache(tmp_path: Path) -> None:
    assert cache(tmp_path).folder.stat().st_mode & 0o777 == 0o700
