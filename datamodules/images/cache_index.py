"""CacheIndex: what a cache of images holds, in a small database."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lit_dist.utils.errors import InputError

_TABLES = """
CREATE TABLE IF NOT EXISTS images (slot INTEGER PRIMARY KEY, content BLOB UNIQUE NOT NULL, pixels BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, slot INTEGER NOT NULL
) WITHOUT ROWID;
"""
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")  # the last: a table is not as it should be


class StoredImage(NamedTuple):
    """A prepared image: its slot, the SHA-256 of the file's content, and that of its pixels."""

    slot: int
    content: bytes
    pixels: bytes


class CacheIndex:
    """Which prepared image is in which slot of the pixel file, and which files have it.

    A damaged database counts as an empty one. SQLite keeps it whole when a process is killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> dict[str, tuple[str, int]]:
        """Each file's stamp when it was read, and the slot of its image, by path."""
        return {path: (stamp, slot) for path, stamp, slot in self._read("SELECT path, stamp, slot FROM files")}

    def images(self) -> list[StoredImage]:
        """All prepared images, in the order of their slots."""
        return [StoredImage(*row) for row in self._read("SELECT slot, content, pixels FROM images ORDER BY slot")]

    def slots(self) -> int:
        """How many slots the pixel file has, used and unused ones."""
        (row,) = self._read("SELECT MAX(slot) FROM images") or [(None,)]
        return 0 if row[0] is None else row[0] + 1

    def add(self, images: Iterable[StoredImage], files: Iterable[tuple[str, str, int]]) -> None:
        """Note images and files, all or none, as prepared; the pixels are to be on the disk already."""
        with self._writing() as database:
            database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", images)
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", files)

    def forget(self, slots: Iterable[int]) -> None:
        """Take images out, so that they are prepared again."""
        with self._writing() as database:
            rows = [(slot,) for slot in slots]
            database.executemany("DELETE FROM images WHERE slot = ?", rows)
            database.executemany("DELETE FROM files WHERE slot = ?", rows)

    def mend(self) -> None:
        """Remove a database that is damaged, so that there is room for a new one."""
        counts = [self._read(f"SELECT COUNT(*) FROM {table}") for table in ("files", "images")]
        if not all(counts) or self._read("PRAGMA quick_check") != [("ok",)]:
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        if not self.path.is_file():
            return []
        # Not read-only: what a killed process left is rolled back by the first who reads. It makes no new file.
        place = f"{self.path.absolute().as_uri()}?mode=rw"
        with self._explained(), closing(sqlite3.connect(place, uri=True)) as database:
            try:
                return database.execute(query).fetchall()
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorname in _DAMAGED:
                    return []
                raise

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), closing(sqlite3.connect(self.path)) as database:
            database.executescript(_TABLES)
            with database:
                yield database

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise InputError(f"the image cache's index {self.path} cannot be used: {error}") from None
