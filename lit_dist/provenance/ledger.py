"""The ledger: one JSON line a visit, which says who trained what, and with which weights it began and ended.

The lines form a chain: each has the hash of the one before, and a hash of its own; ``audit`` checks it.
"""

import codecs
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lit_dist.utils.atomic_write import check_file, check_kind, not_written, open_file
from lit_dist.utils.errors import InputError

Outcome = Literal["trained", "cut short", "diverged", "skipped", "absent"]

FIRST = "0" * 64
"""What stands in the first line of a ledger for the line before it."""

LONGEST = 2**20
"""The longest line that is read, in bytes; one of a visit with 100 metrics has about 5,000."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The record of one visit.

    Attributes:
        run: The run's id; several runs may write to one file.
        visit: The visit's number, from 0.
        cycle: The round over all sites that the visit belongs to, from 0.
        site: The site's name.
        outcome: ``"trained"``; ``"cut short"`` by the end of the run, which a later fit may continue; ``"diverged"``,
            with which the run ended; ``"skipped"``, diverged and left out; or ``"absent"``, left out since the site did
            not answer. After ``"diverged"`` and ``"skipped"`` the weights that went out are those that came in; so they
            are after ``"absent"``, unless the site had answered for a part of the visit.
        images: The number of images that were trained on, counted each time that they were drawn.
        steps: The number of optimizer steps.
        learning_rates_start: The learning rate of each group of parameters in the first step.
        learning_rates_end: The same in the last step.
        sha256_in: The fingerprint of the weights and buffers that came in.
        sha256_out: The fingerprint of the weights and buffers that went out.
        bytes: The size of the weights and buffers, in bytes.
        seconds: The wall-clock time of the visit, in seconds.
        settings: The SHA-256 of the settings that decide what a visit does.
        versions: The versions of the programs, and the number of threads.
        metrics: What the module logged in the visit, and in the validation after it, if there was one.
        origin: The checkpoint of another run that this one began with: its name, and the fingerprint of its weights;
            empty for a run that began by itself, whose lines do not have it.
        previous: The hash of the line before.
    """

    run: str
    visit: int
    cycle: int
    site: str
    outcome: Outcome
    images: int
    steps: int
    learning_rates_start: list[float]
    learning_rates_end: list[float]
    sha256_in: str
    sha256_out: str
    bytes: int
    seconds: float
    settings: str
    versions: dict[str, str]
    metrics: dict[str, float | None] = field(default_factory=dict)
    origin: str = ""
    previous: str = FIRST

    def _body(self) -> str:
        values = {name: value for name, value in asdict(self).items() if name != "origin" or value}
        return json.dumps(values, allow_nan=False)[:-1]

    @property
    def sha256(self) -> str:
        """The hash of the line."""
        return _sha256(self._body())

    @property
    def line(self) -> str:
        """The line, without its end."""
        body = self._body()
        return f'{body}, "sha256": "{_sha256(body)}"}}'

    @classmethod
    def parse(cls, line: str) -> "Entry":
        """Read a line.

        Raises:
            ValueError: If it is not exactly what ``line`` gives for some entry.
        """
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):  # also an integer of too many digits
            raise ValueError("it is no JSON that a run writes") from None
        if not isinstance(values, dict) or values.keys() | {"origin"} != _TYPES.keys() | {"sha256"}:
            raise ValueError("it is no ledger entry: its names are not those of one")
        wrong = [name for name, kind in _TYPES.items() if not _fits(values.get(name, ""), kind)]
        if wrong:
            raise ValueError(f"its {wrong[0]!r} is of the wrong type, or no number that a run writes")
        del values["sha256"]
        entry = cls(**values)
        if entry.outcome not in get_args(Outcome):
            raise ValueError(f"there is no outcome {entry.outcome[:50]!r}")
        if line != entry.line:  # which ends with the hash
            raise ValueError("it was changed: its hash is another")
        return entry

    def same_visit(self, other: "Entry") -> bool:
        """Whether another entry tells of the same visit with the same weights."""
        return all(getattr(self, name) == getattr(other, name) for name in _FACTS)


_FACTS = ("run", "visit", "cycle", "site", "outcome", "images", "steps", "sha256_in", "sha256_out")
_TYPES: dict[str, Any] = {**get_type_hints(Entry), "outcome": str}  # its values are looked at by themselves
_LARGEST = sys.float_info.max


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fits(value: object, kind: Any) -> bool:
    """Whether a value from JSON is of a type, such as ``dict[str, float | None]``."""
    if isinstance(value, list | dict):
        values = value if isinstance(value, list) else value.values()
        return get_origin(kind) is type(value) and all(_fits(item, get_args(kind)[-1]) for item in values)
    if isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:  # nor is NaN
        return False
    return get_origin(kind) not in (list, dict) and isinstance(value, kind) and not isinstance(value, bool)


class OtherWeightsError(InputError, RuntimeError):
    """A visit that was repeated ended with other weights than its line says."""


class Ledger:
    """A file of entries that only grows.

    A run that resumes from an older checkpoint repeats visits that are on record already. Such a visit is compared with
    its line, and written no second time.

    Args:
        path: The file; it and its folder are made at the first entry.
        head: The hash of the line after which to go on; None goes on after the last one.
        run: The id of the run that goes on in its own folder: then the file must be a whole chain with the line to go
            on after, and the lines after that must be the run's.

    Attributes:
        head: The hash of the line that the next entry follows.

    Raises:
        InputError: If the file is no ledger, or not the one to continue. It is then untouched.
    """

    def __init__(self, path: Path, head: str | None = None, run: str | None = None) -> None:
        check_file(path)
        self.path = path
        self.head = FIRST
        self._ahead: list[Entry] = []  # the lines after the head
        self._read(head, run)

    def go_on(self, head: str) -> None:
        """Go on after a line, as if the file were opened anew. If that line is the last, no other is read.

        Raises:
            InputError: If the file has lines, but not that one.
        """
        if self._last_line() == head:
            self.head, self._ahead = head, []
        else:
            self._read(head)

    def _last_line(self) -> str | None:
        """The hash of the last line, if it is a whole one."""
        try:
            with open_file(self.path) as file:
                file.seek(max(file.seek(0, os.SEEK_END) - LONGEST, 0))
                *_, line, end = file.read().rsplit(b"\n", 2)
            return None if end else _entry(line + b"\n").sha256
        except (OSError, ValueError):
            return None

    def _read(self, head: str | None, run: str | None = None) -> None:
        path = self.path
        self._ahead = []
        found = head in (None, FIRST)
        last = FIRST
        end, torn = self._whole_lines()
        for entry in iter_entries(path, end) if end else ():
            if run is not None and entry.previous != last:
                raise InputError(
                    f"{path} is broken at visit {entry.visit} (lit-dist verify {path.parent} says how). Put back a copy"
                    " of this run's ledger, or begin a new run in another folder"
                )
            last = entry.sha256
            if found and head is not None:
                self._ahead.append(entry)
            found = found or last == head
        if not found and (last != FIRST or run is not None):
            what = "lacks" if last != FIRST else f"{'is empty' if path.exists() else 'is missing'}, and lacks"
            raise InputError(
                f"{path} {what} the line that the checkpoint goes on after; it was changed or cut. Put back a copy of"
                " this run's ledger, or begin a new run in another folder"
            )
        if run is not None and (others := [entry for entry in self._ahead if entry.run != run]):
            raise InputError(
                f"{path} has visits of another run ({others[0].run!r}) after the line that the checkpoint goes on"
                " after. Put back a copy of this run's ledger, or begin a new run in another folder"
            )
        if torn:
            os.truncate(path, end)
        self.head = last if head is None else head

    def add(self, entry: Entry) -> None:
        """Add an entry, or compare it with the one that is on record for the same visit.

        Raises:
            InputError: If the file cannot be written, or the line is too long to be read again.
            OtherWeightsError: If the visit on record ended with other weights, or another visit is on record.
        """
        while self._ahead:
            recorded = self._ahead.pop(0)
            self.head = recorded.sha256
            if recorded.same_visit(entry):
                return
            if recorded.outcome == "trained":
                raise OtherWeightsError(
                    f"visit {entry.visit} at {entry.site!r} was repeated and ended with the weights"
                    f" {entry.sha256_out[:12]}, but {self.path} has {recorded.sha256_out[:12]} for visit"
                    f" {recorded.visit} at {recorded.site!r}: settings, data or programs have changed since then"
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

    def _whole_lines(self) -> tuple[int, bool]:
        """Where they end; and whether another follows, in whose writing the process was killed, or the power cut."""
        if not self.path.exists():
            return 0, False
        try:
            with open_file(self.path) as file:
                end = sum(len(line) for line in file if line.endswith(b"\n"))
                file.seek(end)
                begun = file.read(len(_BEGINNING))
        except OSError as error:
            raise _unreadable(self.path, error) from None
        if not end and not _BEGINNING.startswith(begun.rstrip(b"\0")):  # zeros are what a power cut leaves
            raise InputError(f"{self.path} is not a ledger; move it away, or take another folder")
        return end, bool(begun)


_BEGINNING = b'{"run": "'


def iter_entries(path: Path, end: int | None = None) -> Iterator[Entry]:
    """Read a ledger line by line, each checked by itself; only one is in memory at a time.

    Args:
        path: The file.
        end: The byte to end before; by default the file's end.

    Raises:
        InputError: If the file cannot be read, or a line is not an entry.
    """
    try:
        with open_file(path) as file:
            for number in count(1):
                line = file.readline(LONGEST) if end is None or file.tell() < end else b""
                if not line:
                    return
                try:
                    yield _entry(line)
                except ValueError as error:
                    raise InputError(f"{path}, line {number}: {error}. Put back a copy of this run's ledger") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> InputError:
    advice = "; let this user read and write it" if isinstance(error, PermissionError) else ""
    return InputError(f"{path} cannot be read as a ledger: {error.strerror or error}{advice}")


def read_entries(path: Path) -> list[Entry]:
    """Read all lines of a ledger, each checked by itself.

    Raises:
        InputError: If the file cannot be read, or a line is not an entry.
    """
    return list(iter_entries(path))


_CUT = "it is cut short (where an interruption has done that, --resume mends it)"


def _entry(line: bytes) -> Entry:
    if not line.endswith(b"\n"):
        raise ValueError(_CUT if len(line) < LONGEST else f"it is longer than {LONGEST} bytes")
    if line.startswith(codecs.BOM_UTF8):
        raise ValueError("it begins with a byte order mark, which some editors write")
    try:
        text = line[:-1].decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text") from None
    return Entry.parse(text)
