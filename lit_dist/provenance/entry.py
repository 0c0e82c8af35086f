"""Entry: one line of the ledger, which says who trained what, and with which weights it began and ended."""

import codecs
import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

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


_CUT = "it is cut short (where an interruption has done that, --resume mends it)"


def parse_entry(line: bytes) -> Entry:
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
        raise ValueError("it is no UTF-8 text") from None
    return Entry.parse(text)
