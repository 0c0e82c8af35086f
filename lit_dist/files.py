"""Files that are whole or not there at all, also after a power cut or a full disk."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lit_dist.errors import InputError

PARTIAL = ".partial"
"""The ending of a file that is being written; one that was left over can be deleted."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside ``path``, sync it, and put it in the place of ``path``.

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
        partial.replace(path)
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
