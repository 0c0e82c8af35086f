"""NamedFiles: finds the files that a table names, wherever they lie below a collection's folder."""

import posixpath
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from lit_dist.datamodules.images.image_index import ImageIndex
from lit_dist.utils.errors import InputError

_FAMILIES = {".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".dicom": ".dcm"}
_SUFFIXES = {".jpg", ".tif", ".dcm", ".png", ".bmp", ".ppm", ".pgm", ".gif", ".webp", ".jp2", *_FAMILIES}


class NamedFiles:
    """Finds files by the names in a table.

    A name means the file at that path. Failing that, the file below any folder whose path ends as the name says; its
    suffix may lack in the name, be in other letters, or be another one in the very folder. Separators may be Windows',
    and accents composed or not.

    Args:
        files: The paths of all files, relative to the folder.
        folder: The folder, for messages.

    Example:
        >>> files = NamedFiles(["mgh/1.JPG", "mgh/2.png", "ucsf/1.png"], Path("images"))
        >>> [files.find(name, "row 2") for name in ("mgh/1.jpg", "1.jpg", "2", "3.png")]
        ['mgh/1.JPG', 'mgh/1.JPG', 'mgh/2.png', None]
    """

    def __init__(self, files: Sequence[str], folder: Path) -> None:
        self.files = files
        self.folder = folder
        self._exact = set(files)

    @classmethod
    def below(cls, folder: Path, suffixes: tuple[str, ...], cache_dir: Path | None = None) -> "NamedFiles":
        """Those of the images below a folder, see ``ImageIndex``; says what is passed over."""
        index = ImageIndex(folder, suffixes, cache_dir)
        files = index.files()
        index.save()
        index.report()
        return cls(files, folder)

    def find(self, name: str, origin: str) -> str | None:
        """The file that a name means, if it is there.

        Args:
            name: The name.
            origin: What to begin a message with: the table and row.

        Raises:
            InputError: If several files may be meant.
        """
        if name in self._exact:
            return name
        wanted = _normal(name)
        place, stem, suffix = _split(wanted)
        rungs: list[list[str]] = [[], [], [], []]
        for file, (folder, found) in self._by_stem.get(stem, {}).items():
            here, exact = folder == place, not suffix or found == suffix
            same = exact or _FAMILIES.get(found, found) == _FAMILIES.get(suffix, suffix)
            if here or (same and (not place or folder.endswith(f"/{place}"))):
                rungs[2 * (not exact) + (not here)].append(file)
        meant = next((rung for rung in rungs if rung), [])
        if len(meant) > 1:
            raise InputError(
                f"{origin}: {name!r} may be {meant[0]} or {meant[1]} in {self.folder}; write the folder and suffix"
            )
        return meant[0] if meant else None

    @cached_property
    def _by_stem(self) -> dict[str, dict[str, tuple[str, str]]]:
        found: dict[str, dict[str, tuple[str, str]]] = {}
        for file in self.files:
            folder, stem, suffix = _split(_normal(file))
            found.setdefault(stem, {})[file] = folder, suffix
        return found


def _normal(path: str) -> str:
    text = path if path.isascii() else unicodedata.normalize("NFC", path)
    return posixpath.normpath(text.replace("\\", "/"))


def _split(path: str) -> tuple[str, str, str]:
    """The folder, the name without an image's suffix, and that suffix in small letters."""
    folder, _, name = path.rpartition("/")
    stem, dot, end = name.rpartition(".")
    suffix = (dot + end).lower()
    return (folder, stem, suffix) if stem and suffix in _SUFFIXES else (folder, name, "")
