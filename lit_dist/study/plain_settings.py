"""Parsed settings as plain values."""

from enum import Enum
from typing import Any

import jsonargparse


def plain_settings(given: jsonargparse.Namespace) -> dict[str, Any]:
    """Parsed settings as a tree that YAML and JSON can hold."""
    # The parser's own dump fails on enumerations among the arguments of Lightning's callbacks.
    tree: dict[str, Any] = _plain(given.as_dict())
    return {name: value for name, value in tree.items() if name != "config"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "__qualname__"):  # a class or a function
        return f"{value.__module__}.{value.__qualname__}"
    return value if isinstance(value, str | int | float | None) else str(value)
