"""New images, without labels, sites or splits: those in a folder, in a table's rows, or one file."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lit_dist.datamodules.images.data_root import (
    PICTURES,
    check_inside,
    check_name,
    is_foreign,
    is_foreign_file,
    is_foreign_folder,
)
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.datamodules.table_columns import ORIGIN
from lit_dist.datamodules.table_file import read_table_file
from lit_dist.utils.errors import InputError

TABLES = (".csv", ".tsv", ".txt", ".parquet")
_SHEETS = (".xlsx", ".xls", ".ods")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"II*\0", b"MM\0*")
"""Those of JPEG, PNG and TIFF; what is weaker, such as BMP's two letters, may begin a text."""

Found = tuple[str, str]
"""A file's name below the folder, and why it cannot be read; "" if nothing is known against it."""


@dataclass(frozen=True)
class NewImages:
    """Images to predict.

    Attributes:
        table: A row an image, with the column ``image`` if they are a folder's, else with the columns of the table.
        files: The file of each row; None where there is none that may be read.
        problems: Why there is none, by row; "" where there is one.
        passed_over: What lies among them and is no image, by name.
    """

    table: pd.DataFrame
    files: Sequence[str | None]
    problems: Sequence[str]
    passed_over: Sequence[str] = ()


def new_images(place: Path, columns: Sequence[str] = ("image",)) -> NewImages:
    """Find the images of a folder, those that a table names, or one image.

    Folders are searched to the bottom; what other programs leave there (see ``data_root``) and files of other kinds are
    passed over. A file is an image by its suffix, or if it begins as DICOM, JPEG, PNG or TIFF does. Links that lead out
    of the folder are not followed, nor are links to folders.

    Args:
        place: The folder, the table (CSV, TSV or Parquet), or the file of one image.
        columns: The names that the table's column with the files may have; the first that is there is taken. Files are
            relative to the table's folder, with or without suffix.

    Raises:
        InputError: If there is no such place, or the table is none.
    """
    if place.is_dir():
        return _of_folder(place)
    suffix = place.suffix.lower()
    if not os.path.lexists(place):
        raise InputError(f"there is no {place}: give a folder of images, a table that names some, or an image")
    if suffix in _SHEETS:
        raise InputError(f"{place} is a spreadsheet, which is not read: save it as CSV")
    if suffix in TABLES:
        return _of_table(place, columns)
    problem = "" if place.is_file() else "it is not a file"
    return _rows([(place.name, problem)], place.parent)


def _rows(found: Sequence[Found], folder: Path, passed_over: Sequence[str] = ()) -> NewImages:
    files = [None if problem else os.path.join(folder, name) for name, problem in found]
    table = pd.DataFrame({"image": [_shown(name) for name, _ in found]})
    return NewImages(table, files, [problem for _, problem in found], passed_over)


def _shown(name: str) -> str:
    """A name as UTF-8 can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


# -- folders -----------------------------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> NewImages:
    passed_over: list[str] = []
    found = list(_walk(folder, "", passed_over))
    if not found:
        others = f"; it has {', '.join(sorted(passed_over)[:5])}" if passed_over else ""
        raise InputError(f"{folder} holds no images{others}"[:500])
    return _rows(found, folder, sorted(passed_over))


def _walk(root: Path, inside: str, passed_over: list[str]) -> Iterator[Found]:
    """The images below a folder, each folder's in the order of their names, before those of the folders in it."""
    folder = os.path.join(root, inside)
    try:
        with os.scandir(folder) as each:
            entries = sorted(each, key=lambda entry: entry.name)
    except OSError as error:
        yield inside or ".", f"the folder cannot be read: {error.strerror or error}"
        return
    folders = []
    for entry in entries:
        name = os.path.join(inside, entry.name)
        if entry.is_dir(follow_symlinks=False):
            folders.append(name)
        elif is_foreign_file(entry.name) or entry.name.upper() == "DICOMDIR":
            passed_over.append(_shown(name))
        elif entry.is_dir():
            yield name, "it is a link to a folder, which is not followed"
        elif problem := _problem(entry, root):
            is_image = entry.name.lower().endswith(PICTURES)
            if is_image or entry.is_symlink():
                yield name, problem
            else:
                passed_over.append(_shown(name))
        elif entry.name.lower().endswith(PICTURES) or _begins_as_image(entry.path):
            yield name, ""
        else:
            passed_over.append(_shown(name))
    for name in folders:
        if is_foreign_folder(os.path.basename(name)):
            passed_over.append(f"{_shown(name)}/")
        else:
            yield from _walk(root, name, passed_over)


def _problem(entry: "os.DirEntry[str]", root: Path) -> str:
    try:
        check_name(entry.name, root)
    except InputError:
        return "its name is not UTF-8; rename it"
    if entry.is_symlink():
        try:
            check_inside(Path(entry.path), root, "the link")
        except InputError as error:
            return str(error)
    if not entry.is_file():
        return "it is a link that leads nowhere" if entry.is_symlink() else "it is neither a file nor a folder"
    return ""


def _begins_as_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            begin = file.read(132)
    except OSError:
        return False
    return begin.startswith(_BEGINNINGS) or begin[128:] == b"DICM"


# -- tables ------------------------------------------------------------------------------------------------------------


def _of_table(path: Path, columns: Sequence[str]) -> NewImages:
    table, column = _read(path, columns)
    lookup = _Lookup(path.parent)
    found = [lookup.find(name) for name in table[column].tolist()]
    files = [file for file, _ in found]
    return NewImages(table.drop(columns=ORIGIN), files, [problem for _, problem in found])


def _read(path: Path, columns: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """The table, and which of the columns it has."""
    *first, last = columns
    for column in first:
        with suppress(InputError):
            return read_table_file(path, [column], [], []), column
    try:
        return read_table_file(path, [last], [], []), last
    except InputError as error:
        hint = "; name the one with the images by --column" if "has no column" in str(error) else ""
        raise InputError(f"{error}{hint}") from None


class _Lookup:
    """Finds the files that a table names below its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._below: NamedFiles | None = None  # listed only where a name is not a path

    def find(self, name: str) -> tuple[str | None, str]:
        """The file that a name means; or why there is none."""
        if not name:
            return None, "the row names no image"
        if is_foreign(name):
            return None, "what has such a name is passed over, as left by another program"
        path = self.folder / name
        try:
            check_inside(path, self.folder, repr(name))
            if os.path.isfile(path):
                return str(path), ""
            if self._below is None:
                found = _walk(self.folder, "", [])
                self._below = NamedFiles([file for file, problem in found if not problem], self.folder)
            file = self._below.find(name, "the row")
        except InputError as error:
            return None, str(error)
        return (str(self.folder / file), "") if file else (None, f"there is no such image in {self.folder}")
