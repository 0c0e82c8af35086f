"""Line: what the lines of a ledger have in common."""

import hashlib
import json
import sys
from dataclasses import asdict
from functools import cache
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

FIRST = "0" * 64
"""What stands in the first line of a ledger for the line before it."""

LONGEST = 2**20
"""The longest line that is read, in bytes; one of a visit with 100 metrics has about 5,000."""

MERGED = "merge"
"""The kind of a merge's line, and the parent of a visit that begins with one."""

ESTIMATED = "estimation"
"""The kind of an estimation's line."""


class Line:
    """What the lines of a ledger have in common: how they are written, hashed and read."""

    __slots__ = ()
    run: str
    sha256_out: str
    previous: str

    facts: ClassVar[tuple[str, ...]]  # what is the same when it is repeated
    optional: ClassVar[frozenset[str]] = frozenset()  # what stands in a line only where it is not empty

    def _body(self) -> str:
        values = {name: value for name, value in asdict(self).items() if name not in self.optional or value}  # type: ignore[call-overload]
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

    @property
    def name(self) -> str:
        """What it tells of, as text."""
        raise NotImplementedError

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line.

        Raises:
            ValueError: If it is not exactly what ``line`` gives for some entry.
        """
        values, kinds = _values(line), _kinds(cls)  # type: ignore[arg-type]  # a class can be hashed
        if values.keys() | cls.optional != kinds.keys() | {"sha256"}:
            raise ValueError("it is not a ledger entry: its names are not those of one")
        wrong = [name for name, kind in kinds.items() if not _fits(values.get(name, ""), kind)]
        if wrong:
            raise ValueError(f"its {wrong[0]!r} is of the wrong type, or not a number that a run writes")
        del values["sha256"]
        entry = cls(**values)
        entry.check()
        if line != entry.line:  # which ends with the hash
            raise ValueError("it was changed: its hash is another")
        return entry

    def check(self) -> None:
        """Raise ``ValueError`` for values that no run writes."""

    def same_visit(self, other: "Line") -> bool:
        """Whether another entry tells of the same visit or merge with the same weights."""
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in self.facts)


@cache
def _kinds(cls: type) -> dict[str, Any]:
    """The types of a line's values; what may only be some texts is looked at by itself."""
    kinds = {name: kind for name, kind in get_type_hints(cls).items() if get_origin(kind) is not ClassVar}
    return {name: str if get_origin(kind) is Literal else kind for name, kind in kinds.items()}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _values(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # also an integer of too many digits
        raise ValueError("it is not the JSON that a run writes") from None
    if not isinstance(values, dict):
        raise ValueError("it is not a ledger entry: its names are not those of one")
    return values


_LARGEST = sys.float_info.max


def _fits(value: object, kind: Any) -> bool:
    """Whether a value from JSON is of a type, such as ``dict[str, float | None]``."""
    if isinstance(value, list | dict):
        values = value if isinstance(value, list) else value.values()
        return get_origin(kind) is type(value) and all(_fits(item, get_args(kind)[-1]) for item in values)
    if isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:  # nor is NaN
        return False
    return get_origin(kind) not in (list, dict) and isinstance(value, kind) and not isinstance(value, bool)
