"""In which settings two runs differ."""

from collections.abc import Iterator
from typing import Any


def changed_settings(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The settings that differ: each one's dotted name, what it was and what it is.

    A setting that is missing is None, and so is one that holds nothing.
    """
    kinds = {type(each) for each in (before, now) if each not in (None, {}, [])}
    if kinds <= {dict} or kinds <= {list}:
        old, new = (dict(each if isinstance(each, dict) else enumerate(each or ())) for each in (before, now))
        for key in sorted(old.keys() | new.keys(), key=str):
            yield from changed_settings(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif before != now:
        yield name, before, now
