"""The files of an RO-Crate: what its metadata say of them, and whether they still are what was packed."""

import json
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from lit_dist.utils.atomic_write import file_sha256, read_text
from lit_dist.utils.errors import InputError

METADATA = "ro-crate-metadata.json"
"""The file that makes a folder an RO-Crate: https://www.researchobject.org/ro-crate/specification"""


def is_crate(path: Path) -> bool:
    """Whether a path is that of a crate: a folder with metadata, or a zip file."""
    return (path / METADATA).is_file() or (path.is_file() and zipfile.is_zipfile(path))


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a crate; of a zip file, one that is there for as long as it is looked at.

    Raises:
        InputError: If the zip file is damaged, too large for this disk, or names places outside of itself.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                _check_members(path, archive.infolist(), shutil.disk_usage(folder).free)
                archive.extractall(folder)
        except InputError:
            raise
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError) as error:
            raise InputError(f"{path} cannot be unpacked: {error}; ask for it again") from None
        found = [each.parent for each in sorted(Path(folder).glob(f"**/{METADATA}"))][:1]
        if not found:
            raise InputError(f"{path} has no {METADATA}, so it is not a crate")
        if beside := [each.name for each in Path(folder).iterdir() if found[0] not in (Path(folder), each)]:
            raise InputError(f"{path} has {beside[0]!r} beside the folder of the crate: it was added")
        yield found[0]


def _check_members(path: Path, members: list[zipfile.ZipInfo], free: int) -> None:
    size = sum(each.file_size for each in members)
    if size > free // 2:
        raise InputError(f"{path} unpacks to {size / 2**30:.1f} GiB, more than half of what this disk has free")
    for each in members:
        place, kind = PurePosixPath(each.filename.replace("\\", "/")), stat.S_IFMT(each.external_attr >> 16)
        if (
            place.is_absolute()
            or ".." in place.parts
            or ":" in each.filename
            or kind not in (0, stat.S_IFREG, stat.S_IFDIR)
        ):
            raise InputError(f"{path} holds {each.filename!r}, which is a link or no place within it")


def read_entities(crate: Path) -> dict[str, dict[str, Any]]:
    """What the metadata of a crate describe, by the identifiers.

    Raises:
        InputError: If they are damaged.
    """
    if (crate / METADATA).is_symlink():
        raise InputError(f"{crate / METADATA} is a link, and a crate has only files")
    try:
        graph = json.loads(read_text(crate / METADATA))["@graph"]
        return {str(each["@id"]): dict(each) for each in graph}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{crate / METADATA} is damaged, or not the metadata of an RO-Crate") from None


def check_files(crate: Path, entities: dict[str, dict[str, Any]]) -> int:
    """Compare the files of a crate with the hashes in its metadata.

    Returns:
        How many there are.

    Raises:
        InputError: If one was changed, is missing, or was added.
    """
    stated = {unquote(name): each.get("sha256") for name, each in entities.items() if each.get("@type") == "File"}
    stated.pop(METADATA, None)
    found = sorted(path for path in crate.rglob("*") if not path.is_dir() or path.is_symlink())
    names = {path.relative_to(crate).as_posix(): path for path in found}
    names.pop(METADATA, None)
    for name, path in names.items():
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path} is a link, a pipe or a device, and a crate has only files")
        if name not in stated:
            raise InputError(f"{path} is not among the files that the metadata of the crate name: it was added")
        if file_sha256(path) != stated[name]:
            raise InputError(f"{path} is not the file that was packed: its SHA-256 is another one")
    if missing := sorted(stated.keys() - names):
        raise InputError(f"{crate} lacks {missing[0]!r}, which its metadata name ({len(missing)} such files)")
    return len(names)
