"""Finding the films in a folder, without leaving it."""

from collections.abc import Iterable
from pathlib import Path

from lit_dist.datamodules.images.image_index import ImageIndex
from lit_dist.datamodules.mammography.films import SUFFIXES
from lit_dist.utils.errors import InputError


def find_films(folder: Path) -> list[Path]:
    """All image files in a folder and those below, in the order of their names; links to folders are not followed.

    Raises:
        InputError: If the folder is missing or holds none, or a file is a link that leads out of it.
    """
    index = ImageIndex(folder, SUFFIXES)
    files = index.files()
    index.report()
    return sorted(folder / name for name in files)


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
