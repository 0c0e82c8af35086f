import errno
import os
import socket
from pathlib import Path

import pytest

from disk import largest_file
from lit_dist.utils.atomic_write import PARTIAL, kind_of, open_file, replacing
from lit_dist.utils.errors import InputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file.bin"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


def write(path: Path, content: bytes = b"new", error: BaseException | None = None) -> None:
    with replacing(path) as file:
        file.write(content)
        if error is not None:
            raise error


def assert_untouched(path: Path) -> None:
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def failing_fsync(monkeypatch: pytest.MonkeyPatch, number: int, at_call: int = 1) -> None:
    fsync, calls = os.fsync, iter(range(1, 100))

    def fail(descriptor: int) -> None:
        if next(calls) == at_call:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_who_has_the_old_file_open_reads_it_to_its_end(path: Path) -> None:
    with path.open("rb") as old:
        write(path)
        assert old.read() == b"old"


def test_folders_are_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "file")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


def test_two_who_write_the_same_file_at_once_both_come_through(path: Path) -> None:
    with replacing(path) as first:
        first.write(b"first")
        write(path, b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_file_and_folder_are_synced_and_the_file_before_it_gets_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bytes]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, path.read_bytes()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write(path)
    (file, before), (folder, after) = synced
    assert file.startswith(f".{path.name}.")
    assert file.endswith(PARTIAL)
    assert (before, folder, after) == (b"old", path.parent.name, b"new")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_free(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    failing_fsync(monkeypatch, number)
    message = f"{path} could not be written: {os.strerror(number)}; free some space in {path.parent}, or choose another"
    with pytest.raises(InputError, match=message):
        write(path)
    assert_untouched(path)


def test_a_write_past_a_real_limit_leaves_the_old_file(path: Path) -> None:
    with largest_file(2**16), pytest.raises(InputError, match=f"File too large; free some space in {path.parent}"):
        write(path, bytes(2**18))
    assert_untouched(path)


def test_another_error_of_the_disk_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_fsync(monkeypatch, errno.EIO)
    with pytest.raises(InputError, match=r"Input/output error\. What was there before is untouched"):
        write(path)
    assert_untouched(path)


def test_a_folder_in_the_place_of_the_file_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="could not be written: Is a directory"):
        write(path.parent)
    assert_untouched(path)
    assert [entry.name for entry in path.parent.parent.iterdir() if entry.name.startswith(".")] == []


def test_a_file_in_the_place_of_the_folder_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="could not be written"):
        write(path / "below")
    assert_untouched(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            write(path)
    finally:
        path.parent.chmod(0o700)
    assert_untouched(path)


@pytest.mark.parametrize("error", [KeyError("a"), KeyboardInterrupt(), InputError("x")])
def test_any_exception_keeps_its_kind_and_leaves_the_old_file_alone(path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write(path, error=error)
    assert_untouched(path)


def test_a_folder_that_cannot_be_synced_is_no_untouched_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_fsync(monkeypatch, errno.EIO, at_call=2)
    message = ""
    try:
        write(path)
    except InputError as error:
        message = str(error)
    assert ("untouched" in message) == (path.read_bytes() == b"old")


def test_only_a_file_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    for name, kind in {"pipe": "a pipe", "socket": "a socket", "/dev/zero": "a device", ".": "a folder"}.items():
        assert kind_of(name) == kind
        with pytest.raises(InputError, match=f"{name} is {kind}, not a file"):
            open_file(Path(name))
    Path("link").symlink_to(path)
    with open_file(Path("link")) as file:
        assert file.read() == b"old"
    assert kind_of("link") is kind_of("nowhere") is kind_of("no\0path") is None
