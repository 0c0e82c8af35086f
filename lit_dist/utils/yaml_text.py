"""Settings as YAML: read from files only, within bounds, and never a thing that holds itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from lit_dist.utils.atomic_write import open_file
from lit_dist.utils.errors import InputError

DEEPEST = 50
"""How deeply settings may be nested; far more than any run needs, and less than Python's stack takes."""
MOST = 1_000_000
"""The greatest number of values in settings."""
MOST_REPEATED = 10_000
"""How many of them may be repetitions of others by aliases; ten lines can repeat thousands of millions."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FAILURES = (yaml.YAMLError, ValueError)  # the second for numbers and dates that Python does not take


def read_yaml(path: Path) -> Any:
    """Read a file of settings.

    Raises:
        InputError: If it is missing, not a file, not text, not YAML, or out of bounds.
    """
    try:
        with open_file(path) as file:
            text = file.read().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    try:
        check_yaml(text)
        return yaml.load(text, Loader=_LOADER)  # a safe one
    except _FAILURES as error:
        raise InputError(f"{path} cannot be read as settings: {' '.join(str(error).split())}") from None


def check_yaml(text: str) -> None:
    """Look through YAML before anything is made of it.

    Raises:
        YAMLError: If it is none, holds itself, names a key twice, is nested too deeply, or has too many values.
    """
    count = repeated = 0
    sizes: dict[str, int] = {}  # of what each anchor stands for
    keys: list[_Keys | None] = []  # of each open mapping; None for a list
    begun: list[tuple[str | None, int]] = []  # what is open: its anchor, and the count before it
    for event in yaml.parse(text, Loader=_LOADER):
        _check_key(event, keys)
        if isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            if any(name == anchor for anchor, _ in begun):
                raise yaml.YAMLError(f"{_place(event)}*{name} stands within itself")
            repeated += sizes.get(name, 0)
            count += sizes.get(name, 0)
        elif isinstance(event, yaml.NodeEvent):
            begun.append((event.anchor, count))
            count += 1
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if len(begun) > DEEPEST:
            raise yaml.YAMLError(f"{_place(event)}settings are nested more than {DEEPEST} deep")
        if repeated > MOST_REPEATED or count > MOST:
            raise yaml.YAMLError("its values, with all that its aliases (*) repeat, are too many for settings")


@dataclass
class _Keys:
    """The keys of a mapping so far, and whether the next node is one."""

    names: set[str] = field(default_factory=set)
    next: bool = True


def _check_key(event: yaml.Event, keys: list[_Keys | None]) -> None:
    mapping = keys[-1] if keys else None
    if mapping is not None and isinstance(event, yaml.NodeEvent):
        if mapping.next and isinstance(event, yaml.ScalarEvent) and event.value != "<<":
            if event.value in mapping.names:
                raise yaml.YAMLError(f"{_place(event)}the key {event.value[:60]!r} stands twice; keep one of them")
            mapping.names.add(event.value)
        mapping.next = not mapping.next
    if isinstance(event, yaml.CollectionStartEvent):
        keys.append(_Keys() if isinstance(event, yaml.MappingStartEvent) else None)
    elif isinstance(event, yaml.CollectionEndEvent):
        keys.pop()


def _place(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark is not None else ""


def texts(tree: Any) -> Iterator[str]:
    """The texts among settings."""
    if isinstance(tree, dict | list):
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from texts(each)
    elif isinstance(tree, str):
        yield tree


def guard_parsers() -> None:
    """Let parsers of command lines look through what they read, too: configurations, and values that are YAML."""
    load = get_loader("yaml")
    if getattr(load, "guarded", False):
        return

    def guarded(text: str) -> Any:
        check_yaml(text)
        return load(text)

    guarded.guarded = True  # type: ignore[attr-defined]
    set_loader("yaml", guarded, _FAILURES)
