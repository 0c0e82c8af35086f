"""Finding the films in a folder, without leaving it."""

import os
from collections.abc import Iterable
from pathlib import Path

from lit_dist.datamodules.films import SUFFIXES
from lit_dist.errors import InputError


def find_films(folder: Path) -> list[Path]:
    """All image files in a folder and those below, in the order of their names; links to folders are not followed.

    Raises:
        InputError: If the folder is missing or holds none, or a file is a link that leads out of it.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder of images at {folder}")
    found = [
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES
    ]
    if not found:
        raise InputError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    for path in found:
        if path.is_symlink():
            check_inside(path, folder, str(path))
    return sorted(found)


def check_inside(path: Path, folder: Path, origin: str) -> None:
    """Refuse a path that leads out of a folder, by ``..``, from the root, or through a link.

    Args:
        path: The path.
        folder: The folder.
        origin: What to begin the message with: the file and row that gave the path.

    Raises:
        InputError: If it does.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{origin} leads out of {folder}; images are read from there alone")


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names without suffix.

    Raises:
        InputError: If two files have one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise InputError(
                f"both {found[path.stem]} and {path} are there; remove one, or name the folder with images"
            )
        found[path.stem] = path
    return found
