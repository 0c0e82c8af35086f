"""The ledger: one JSON line a visit, which says who trained what, and with which weights it began and ended.

A merge has a line, too, which says of which visits' weights it was made, and so has an estimation before the visits.

The lines form a chain: each has the hash of the one before, and a hash of its own; ``audit`` checks it.
"""

import codecs
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from lit_dist.provenance.entry import Entry
from lit_dist.provenance.estimation import Estimation
from lit_dist.provenance.line import ESTIMATED, FIRST, LONGEST, MERGED
from lit_dist.provenance.merge import Merge
from lit_dist.utils.atomic_write import check_file, check_kind, not_written, open_file
from lit_dist.utils.errors import InputError

AnyLine = Entry | Merge | Estimation


class OtherWeightsError(InputError, RuntimeError):
    """A visit that was repeated ended with other weights than its line says."""


class Ledger:
    """A file of entries that only grows.

    A run that resumes from an older checkpoint repeats visits that are on record already. Such a visit is compared with
    its line, and written no second time.

    Args:
        path: The file; it and its folder are made at the first entry.
        head: The hash of the line to resume after; None resumes after the last one.
        run: The id of the run that resumes in its own folder: then the file must be a whole chain with the line to
            resume after, and the lines after that must be the run's.

    Attributes:
        head: The hash of the line that the next entry follows.

    Raises:
        InputError: If the file is not a ledger, or not the one to continue. It is then untouched.
    """

    def __init__(self, path: Path, head: str | None = None, run: str | None = None) -> None:
        check_file(path)
        self.path = path
        self.head = FIRST
        self._ahead: list[AnyLine] = []  # the lines after the head
        self._read(head, run)

    def resume(self, head: str) -> None:
        """Resume after a line, as if the file were opened anew. If that line is the last, no other is read.

        Raises:
            InputError: If the file has lines, but not that one.
        """
        with suppress(ValueError):  # which reading all of it names
            *_, line, torn = self._last_lines()
            if not torn and parse_entry(line + b"\n").sha256 == head:
                self.head, self._ahead = head, []
                return
        self._read(head)

    def _read(self, head: str | None, run: str | None = None) -> None:
        *whole, torn = self._last_lines()
        if not whole and not _BEGINNING.startswith(torn[: len(_BEGINNING)].rstrip(b"\0")):  # which a power cut leaves
            raise InputError(f"{self.path} is not a ledger; move it away, or take another folder")
        self._ahead = []
        found, last = head in (None, FIRST), FIRST
        for entry in iter_lines(self.path, torn=bool(torn)) if whole else ():
            if run is not None and entry.previous != last:
                raise self._broken(f"is broken at {entry.name} (lit-dist verify {self.path.parent} says how)")
            last = entry.sha256
            if found and head is not None:
                self._ahead.append(entry)
            found = found or last == head
        if not found and (last != FIRST or run is not None):
            lacks = "" if last != FIRST else "is empty, and " if self.path.exists() else "is missing, and "
            raise self._broken(f"{lacks}lacks the line that the checkpoint resumes after; it was changed or cut")
        if run is not None and (others := [entry.run for entry in self._ahead if entry.run != run]):
            raise self._broken(
                f"has visits of another run ({others[0]!r}) after the line that the checkpoint resumes after"
            )
        if torn:
            os.truncate(self.path, self.path.stat().st_size - len(torn))
        self.head = last if head is None else head

    def _last_lines(self) -> list[bytes]:
        """What ends with the last whole lines, and what follows of one in whose writing a kill or a power cut came."""
        lines = [b""]
        if not self.path.exists():
            return lines
        try:
            with open_file(self.path) as file:
                for most in (2**16, 2 * LONGEST):
                    if len(lines) < 3:  # none of two usual lines is as long
                        file.seek(max(file.seek(0, os.SEEK_END) - most, 0))
                        lines = file.read().rsplit(b"\n", 2)
        except OSError as error:
            raise _unreadable(self.path, error) from None
        return lines

    def _broken(self, what: str) -> InputError:
        return InputError(
            f"{self.path} {what}. Put back a copy of this run's ledger, or begin a new run in another folder"
        )

    def add(self, entry: AnyLine) -> None:
        """Add an entry, or compare it with the one that is on record for the same visit or merge.

        Raises:
            InputError: If the file cannot be written, or the line is too long to be read again.
            OtherWeightsError: If the visit on record ended with other weights, or another visit is on record.
        """
        absent = False  # whether a site did not answer that does now
        while self._ahead:
            recorded = self._ahead.pop(0)
            self.head = recorded.sha256
            if recorded.same_visit(entry):
                return
            absent = absent or (isinstance(recorded, Entry) and recorded.outcome == "absent")
            if recorded.outcome == "trained" if isinstance(recorded, Entry) else not absent:
                raise OtherWeightsError(
                    f"{entry.name} was repeated and ended with the weights {entry.sha256_out[:12]}, but {self.path} has"
                    f" {recorded.sha256_out[:12]} for {recorded.name}: settings, data or programs have changed since"
                    " then"
                )
        entry = replace(entry, previous=self.head)
        self._append(entry.line + "\n")
        self.head = entry.sha256

    def _append(self, text: str) -> None:
        if len(text.encode()) >= LONGEST:
            raise InputError(
                f"a visit's line of {self.path} would have {len(text):,} bytes, and none is read that has {LONGEST:,}:"
                " log fewer metrics, or give them shorter names"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_kind(self.path)  # a pipe would be waited for without end
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise not_written(self.path, error) from None


_BEGINNING = b'{"run": "'
_CUT = "it is cut short (where an interruption has done that, --resume mends it)"


def parse_entry(line: bytes) -> AnyLine:
    """Read a line of a ledger's file, with its end.

    Raises:
        ValueError: If it is none.
    """
    if not line.endswith(b"\n"):
        raise ValueError(_CUT if len(line) < LONGEST else f"it is longer than {LONGEST} bytes")
    if line.startswith(codecs.BOM_UTF8):
        raise ValueError("it begins with a byte order mark, which some editors write")
    try:
        text = line[:-1].decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    kinds: dict[str, type[AnyLine]] = {MERGED: Merge, ESTIMATED: Estimation}
    return next((kind for name, kind in kinds.items() if f'"kind": "{name}"' in text), Entry).parse(text)


def iter_lines(path: Path, torn: bool = False) -> Iterator[AnyLine]:
    """Read a ledger line by line, each checked by itself; only one is in memory at a time.

    Args:
        path: The file.
        torn: Whether to leave out a last line that is cut short.

    Raises:
        InputError: If the file cannot be read, or a line is not an entry.
    """
    try:
        with open_file(path) as file:
            for number, line in enumerate(iter(partial(file.readline, LONGEST), b""), start=1):
                if torn and len(line) < LONGEST and not line.endswith(b"\n"):
                    return
                try:
                    yield parse_entry(line)
                except ValueError as error:
                    raise InputError(f"{path}, line {number}: {error}. Put back a copy of this run's ledger") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> InputError:
    advice = "; let this user read and write it" if isinstance(error, PermissionError) else ""
    return InputError(f"{path} cannot be read as a ledger: {error.strerror or error}{advice}")


def iter_entries(path: Path) -> Iterator[Entry]:
    """Read the visits of a ledger, as ``iter_lines`` does."""
    return (entry for entry in iter_lines(path) if isinstance(entry, Entry))


def read_entries(path: Path) -> list[Entry]:
    """Read all visits of a ledger, each line checked by itself.

    Raises:
        InputError: If the file cannot be read, or a line is not an entry.
    """
    return list(iter_entries(path))
