"""What is read of a data root: where a name or a link may lead to, and what other programs leave there.

That is not part of a collection: thumbnails, recycle bins, copies.
"""

import os
from pathlib import Path

from lit_dist.utils.errors import InputError


def check_inside(path: Path, folder: Path, origin: str) -> None:
    """Raise ``InputError`` for a path that leads out of a folder, by ``..``, from the root, or through a link.

    Args:
        path: The path.
        folder: The folder.
        origin: What to begin the message with: the file and row that gave the path.
    """
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (ValueError, OSError, RuntimeError) as error:  # a zero byte, or links that go round in a circle
        raise InputError(f"{origin} is not a path of a file: {error}") from None
    if not inside:
        raise InputError(f"{origin} leads out of {folder}; images are read from there alone")


PICTURES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".dcm", ".dicom", ".gif"),
    *(".webp", ".jp2", ".j2k", ".jxl", ".avif", ".heic", ".heif", ".tga", ".psd", ".dng", ".cr2", ".nef", ".arw"),
)
"""The suffixes of images, read or not."""


def image_entries(
    folder: str, root: Path, suffixes: tuple[str, ...]
) -> tuple[list[str], list[str], list[str], list[str]]:
    """A folder's image files, folders, what other programs left, and images of kinds that are not read; each sorted.

    Links to folders are not followed, so a circle of them does no harm. A link that leads nowhere counts as a file.

    Raises:
        InputError: If the folder cannot be read, a name is not UTF-8, a link leads out of ``root``, or something
            that is neither a file nor a folder has an image's name: a pipe would be waited for without end.
    """
    files: list[str] = []
    folders: list[str] = []
    foreign: list[str] = []
    unread: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    (foreign if is_foreign_folder(entry.name) else folders).append(entry.name)
                elif entry.name.lower().endswith(suffixes) and not entry.is_dir():
                    if is_foreign_file(entry.name):
                        foreign.append(entry.name)
                        continue
                    files.append(entry.name)
                    _check(entry, root)
                elif entry.name.lower().endswith(PICTURES) and not is_foreign_file(entry.name) and entry.is_file():
                    unread.append(entry.name)
                if not entry.name.isascii():
                    check_name(entry.name, folder)
    except OSError as error:
        raise unreadable(folder, error) from None
    return sorted(files), sorted(folders), sorted(foreign), sorted(unread)


def unreadable(folder: Path | str, error: OSError) -> InputError:
    """What to say of a folder that is not there, or may not be read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputError(f"there is no folder {folder}")
    return InputError(f"the folder {folder} cannot be read: {error.strerror or error}")


def check_name(name: str, folder: Path | str) -> None:
    """Raise ``InputError`` for a name that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{folder}: the name {name!r} is not UTF-8; rename it") from None


def _check(entry: "os.DirEntry[str]", root: Path) -> None:
    if entry.is_symlink():
        check_inside(Path(entry.path), root, f"the link {entry.path}")
    elif not entry.is_file():
        raise InputError(f"{entry.path} is neither a file nor a folder; remove it")


_FOREIGN_FOLDERS = {
    *("__macosx", "__pycache__", "_vti_cnf", "~snapshot", "lost+found", "found.000"),
    *("system volume information", "recycler", "recycled", "config.msi", "msocache", "winreagent"),
    *("network trash folder", "temporary items", "theseparatetrash", "thevolumesettingsfolder"),
}
"""Folders' names in small letters, besides those that begin as ``_FOREIGN_PREFIXES`` has it."""

_FOREIGN_PREFIXES = (".", "@", "#recycle", "#snapshot", "$")
"""Hidden folders, and those of network storage (Synology, QNAP) and Windows."""

_FOREIGN_FILES = (".", "~$", "synophoto_", "synoindex_", "synofile_")


def is_foreign_folder(name: str) -> bool:
    """Whether a folder's name is one that other programs give to what they leave.

    Example:
        >>> [is_foreign_folder(name) for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "n01443537")]
        [True, True, True, False]
    """
    lower = name.lower()
    return (
        lower.startswith(_FOREIGN_PREFIXES)
        or lower in _FOREIGN_FOLDERS
        or (lower.startswith("found.") and lower[6:].isdecimal())
    )


def is_foreign_file(name: str) -> bool:
    """Whether a file's name is one that other programs give to what they leave, though it may end as an image's.

    Example:
        >>> [is_foreign_file(name) for name in ("._10_left.jpeg", "SYNOPHOTO_THUMB_M.jpg", "10_left.jpeg")]
        [True, True, False]
    """
    return name.lower().startswith(_FOREIGN_FILES)


def is_foreign(path: str) -> bool:
    """Whether a path that is relative to a collection's folder leads to what another program has left.

    Example:
        >>> is_foreign("mgh/.ipynb_checkpoints/a-checkpoint.jpg"), is_foreign("mgh/a.jpg"), is_foreign("./mgh/../a.jpg")
        (True, False, False)
    """
    *folders, name = path.replace("\\", "/").split("/")
    return is_foreign_file(name) or any(is_foreign_folder(each) for each in folders if each.strip("."))
