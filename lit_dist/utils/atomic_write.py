"""Files that are whole or not there at all, also after a power cut or a full disk."""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from lit_dist.utils.errors import InputError

PARTIAL = ".partial"
"""The ending of a file that is being written; one that was left over can be deleted."""

_ELSE = "or choose another folder"
_MOVE = f"move it away, {_ELSE}"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading; only a file, since a pipe would be waited for without end, and a device may have none.

    Raises:
        InputError: If it is something else.
        OSError: If it cannot be opened.
    """
    refuse_special(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # put there since
        file.close()
        raise InputError(f"{path} is not a file")
    return file


def read_text(path: Path) -> str:
    """Read a text file, UTF-8, with or without a mark of that at its beginning.

    Raises:
        InputError: If it is not a file.
        OSError: If it cannot be opened.
        UnicodeDecodeError: If it is not UTF-8.
    """
    with open_file(path) as file:
        return file.read().decode("utf-8-sig")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as ``sha256sum`` prints it.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a buffered reader
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def refuse_special(path: Path | str) -> None:
    """Refuse a folder, pipe, socket or device where there should be a file; if nothing is there, nothing is said.

    Raises:
        InputError: If it is one of these.
    """
    kind = kind_of(path)
    if kind is not None:
        raise InputError(f"{path} is {kind}, not a file")


def kind_of(path: Path | str) -> str | None:
    """What is at a path, if it is not a file: ``"a folder"``, ``"a pipe"``, ``"a socket"`` or ``"a device"``."""
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):  # nothing, or no path at all
        return None


def check_file(path: Path) -> None:
    """See that a file can be read and written, if it is there.

    Raises:
        InputError: If not.
    """
    check_kind(path)
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise InputError(f"{path} cannot be read and written by this user: change its permissions, {_ELSE}")


def check_folder(folder: Path) -> None:
    """See that files can be written into a folder, which may have to be made.

    Raises:
        InputError: If not.
    """
    here = folder.absolute()
    while not os.path.lexists(here) and here != here.parent:
        here = here.parent
    if not here.is_dir():
        kind = kind_of(here) or ("a file" if here.exists() else "a link to nowhere")
        raise InputError(f"{here} is {kind}, where a folder is needed: {_MOVE}")
    if not os.access(here, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"this user cannot write into the folder {here}: change its permissions, {_ELSE}")


def check_kind(path: Path) -> None:
    """See that nothing else than a file has the name of one that is to be written.

    Raises:
        InputError: If a pipe, a socket, a device, a folder or a link to nowhere has it.
    """
    kind = kind_of(path) or ("a link to nowhere" if path.is_symlink() and not path.exists() else None)
    if kind is not None:
        raise InputError(f"{path} is {kind}, where a file is written: {_MOVE}")


@contextlib.contextmanager
def replacing(path: Path, name: Callable[[], str] | None = None) -> Iterator[BinaryIO]:
    """Write a file beside ``path``, sync it, and put it in the place of ``path``.

    Args:
        path: The file.
        name: Gives its name where that is known only when all of it is written; ``path`` then says the folder.

    Raises:
        InputError: If it cannot be written; ``path`` is then what it was.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")  # others may write the same file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path.with_name(name()) if name else path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise not_written(path, error) from None
        raise
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{path} was written, but may not outlast a power cut: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_written(path: Path, error: OSError) -> InputError:
    """The message for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        why = f"{error.strerror}; free some space in {path.parent}, or choose another folder"
    else:
        why = str(error.strerror or error)
    return InputError(f"{path} could not be written: {why}. What was there before is untouched")
