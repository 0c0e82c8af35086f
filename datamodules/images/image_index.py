"""ImageIndex: which image files a folder has, kept in a file so that millions of them are listed once."""

import hashlib
import json
import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lit_dist.datamodules.images.data_root import check_inside, image_entries, unreadable
from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.errors import InputError

_SHOWN = 8
_TICK = 2_000_000_000  # nanoseconds; the coarsest clock of a file system in use


@dataclass(slots=True, unsafe_hash=True)  # a frozen one takes twice as long to make
class ImageFile:
    """A file as the cache reads it; it is made much faster than a ``Path``. Nothing changes one.

    Attributes:
        path: The file.
    """

    path: str

    def __str__(self) -> str:
        return self.path

    def stat(self) -> os.stat_result:
        """The file's status."""
        return os.stat(self.path)

    def read_bytes(self) -> bytes:
        """The file's content."""
        with open(self.path, "rb") as file:
            return file.read()


@dataclass
class _Folder:
    """What a folder held when it was last read.

    Attributes:
        stamp: The times of its last change, or 0 where it may have changed again without these telling.
        files: The names of the image files.
        folders: The names of the folders in it.
        foreign: The names of what other programs left in it.
        unread: The names of images of kinds that are not read.
    """

    stamp: list[int]
    files: list[str]
    folders: list[str]
    foreign: list[str]
    unread: list[str]


class ImageIndex:
    """The image files below a folder.

    A folder is read again only if its time of change says that a file came, went or was renamed since, so that the
    next start asks once a folder and not once a file. Whether a file's content has changed is not asked here. What
    other programs leave among images (see ``data_root``) is passed over.

    Args:
        root: The folder. Links must not lead out of it.
        suffixes: The suffixes of images, in small letters.
        cache_dir: The folder in which the index is kept; None keeps none.

    Attributes:
        foreign: The names of what was passed over, and how many have each.
        unread: The suffixes of images that are not read, and how many have each.
    """

    def __init__(self, root: Path, suffixes: tuple[str, ...], cache_dir: Path | None = None) -> None:
        self.root = root
        self.suffixes = suffixes
        key = json.dumps([str(root.resolve()), suffixes])
        self._file = (
            cache_dir / "listings" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json" if cache_dir else None
        )
        self._folders = self._read()
        self._changed = False
        self.foreign: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()

    def files(self, folder: str = "") -> list[str]:
        """The image files in a folder and those below, relative to the root; each folder's in the order of their names.

        Raises:
            InputError: If a folder is missing or cannot be read, a link leads out of the root, or there are no images.
        """
        found = self.files_or_none(folder)
        if not found:
            unread = f", but {self._unread()}, which are not read" if self.unread else ""
            raise InputError(f"{self.root / folder} holds no images ({', '.join(self.suffixes)}){unread}")
        return found

    def holds_images(self, folder: str) -> bool:
        """Whether a folder, or one below it, holds an image."""
        entry = self._entry(folder)
        return bool(entry.files) or any(self.holds_images(f"{folder}/{name}") for name in entry.folders)

    def own_files(self, folder: str = "") -> list[str]:
        """The names of the image files in a folder itself, without those below."""
        self._check_inside(folder)
        return self._entry(folder).files

    def files_or_none(self, folder: str) -> list[str]:
        """As ``files``, of a folder that may hold no images."""
        found: list[str] = []
        self._check_inside(folder)
        self._collect(folder, found)
        return found

    def own_folders(self, folder: str = "") -> list[str]:
        """The names of the folders in a folder, which are not links."""
        self._check_inside(folder)
        return self._entry(folder).folders

    def report(self) -> None:
        """Say what was passed over."""
        if self.unread:
            rank_zero_warn(
                f"Below {self.root} are {self._unread()}, which are not read: convert them, or move them away"
            )
        if self.foreign:
            folders = {name: count for name, count in self.foreign.items() if not name.lower().endswith(self.suffixes)}
            files = self.foreign.total() - sum(folders.values())
            told = [f"{name} ({count})" for name, count in sorted(folders.items())[:_SHOWN]]
            told += [f"{len(folders) - _SHOWN} other names of folders"] if len(folders) > _SHOWN else []
            told += [f"{files} hidden files or thumbnails"] if files else []
            rank_zero_info(f"Passed over below {self.root}, as what other programs leave: {', '.join(told)}")

    def _unread(self) -> str:
        return ", ".join(f"{count} images {suffix}" for suffix, count in sorted(self.unread.items()))

    def save(self) -> None:
        """Keep the index, if there is something new in it. Where nothing can be written, folders are read each time."""
        if self._file is None or not self._changed:
            return
        content = json.dumps({name: astuple(folder) for name, folder in self._folders.items()})
        with suppress(OSError, InputError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replacing(self._file) as file:
                file.write(content.encode())
        self._changed = False

    def _check_inside(self, folder: str) -> None:
        # Folders below it are found by reading it, which follows no links.
        path = os.path.join(self.root, folder)
        if folder:
            check_inside(Path(path), self.root, f"the folder {path}")

    def _collect(self, folder: str, found: list[str]) -> None:
        entry = self._entry(folder)
        self.foreign.update(entry.foreign)
        self.unread.update(os.path.splitext(name)[1].lower() for name in entry.unread)
        prefix = f"{folder}/" if folder else ""
        found += [prefix + name for name in entry.files]
        for name in entry.folders:
            self._collect(prefix + name, found)

    def _entry(self, folder: str) -> _Folder:
        path = os.path.join(self.root, folder)
        try:
            status = os.stat(path)
        except OSError as error:
            raise unreadable(path, error) from None
        stamp = [status.st_mtime_ns, status.st_ctime_ns]  # the second cannot be set back
        known = self._folders.get(folder)
        if known is not None and known.stamp == stamp:
            return known
        now = time.time_ns()
        found = image_entries(path, self.root, self.suffixes)
        settled = max(stamp) < now - _TICK
        self._folders[folder] = _Folder(stamp if settled else [], *found)
        self._changed = True
        return self._folders[folder]

    def _read(self) -> dict[str, _Folder]:
        try:
            content = json.loads(self._file.read_bytes()) if self._file else {}
            return {name: _Folder(*entry) for name, entry in content.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
