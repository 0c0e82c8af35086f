"""FileBacked: a value in memory, or in a file of its own from which it is read when it is asked for."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lit_dist.utils.errors import InputError


class FileBacked:
    """A part of a checkpoint that need be neither in memory nor in every checkpoint's file. It is not to be changed.

    Args:
        value: The value.

    Attributes:
        path: The file; None while the value is in memory.
    """

    def __init__(self, value: Any) -> None:
        self.path: Path | None = None
        self._value = value
        self._read: Callable[[Path], Any] | None = None

    @classmethod
    def at(cls, path: Path, read: Callable[[Path], Any]) -> "FileBacked":
        """A value that a file has, and how it is read."""
        part = cls(None)
        part.move_to(path, read)
        return part

    def move_to(self, path: Path, read: Callable[[Path], Any]) -> None:
        """Let go of the value, which a file has from now on."""
        self.path, self._read, self._value = path, read, None

    def get(self) -> Any:
        """The value.

        Raises:
            InputError: If its file is missing or damaged.
        """
        if self.path is None or self._read is None:
            return self._value
        self.check()
        return self._read(self.path)

    def check(self) -> None:
        """See that the file is there.

        Raises:
            InputError: If it is not.
        """
        if self.path is not None and not self.path.is_file():
            raise InputError(
                f"{self.path} is missing, which has what stays at a site between its visits: a run is resumed from a"
                f" checkpoint with the folder {self.path.parent.name!r} that was beside it; copy that there, too"
            )


def file_backed(value: Any) -> FileBacked:
    """A value as one that may lie in a file, unless it is one."""
    return value if isinstance(value, FileBacked) else FileBacked(value)


def parts_of(tree: Any) -> Iterator[FileBacked]:
    """Those in nested dictionaries, lists and tuples."""
    if isinstance(tree, FileBacked):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for each in tree.values() if isinstance(tree, Mapping) else tree:
            yield from parts_of(each)


def check_parts(tree: Any) -> None:
    """See that the files of those are there, or ``InputError``."""
    for part in parts_of(tree):
        part.check()


def whole(tree: Any) -> Any:
    """The same with their values in their places, for what keeps no files beside a checkpoint."""
    if isinstance(tree, FileBacked):
        return tree.get()
    if isinstance(tree, dict):
        return {name: whole(value) for name, value in tree.items()}
    return type(tree)(map(whole, tree)) if type(tree) in (list, tuple) else tree
