"""Comparing and bounding the plain values that come from another machine."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, equal

LARGEST = 1e30
"""The greatest size of a number that is taken; a loss or a rate beyond it would make sums infinite."""

LONGEST_NAME = 200
"""The greatest number of characters of a name, such as that of a metric or a version."""

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError)
"""What values of another form lead a check to raise."""

_SAID = 2000
_SHOWN = 80


def is_count(value: object) -> bool:
    """Whether a value is a number of things that there can be."""
    return type(value) is int and 0 <= value < 2**31


def is_number(value: object) -> bool:
    """Whether a value is a finite number that can be reckoned with."""
    return type(value) in (int, float) and abs(value) <= LARGEST  # type: ignore[arg-type]  # nor is NaN


def is_short(value: object) -> bool:
    """Whether a value is nothing, yes or no, or a text of a few words."""
    return value is None or type(value) is bool or (type(value) is str and len(value) <= LONGEST_NAME)


def is_name(value: object) -> bool:
    r"""Whether a value is a text that can stand in a line.

    Example:
        >>> is_name("val_loss/mgh"), is_name("a\nb"), is_name("")
        (True, False, False)
    """
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def is_hash(value: object) -> bool:
    """Whether a value is a SHA-256 in hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_plain(tree: Any, is_leaf: Callable[[Any], bool], depth: int = 8) -> bool:
    """Whether a value is made of lists and dictionaries, of no more than so many levels, and of certain leaves."""
    if isinstance(tree, Mapping):
        named = all(type(name) in (int, str) for name in tree)
        return depth > 0 and named and all(is_plain(each, is_leaf, depth - 1) for each in tree.values())
    if isinstance(tree, list | tuple):
        return depth > 0 and all(is_plain(each, is_leaf, depth - 1) for each in tree)
    return tree is None or type(tree) is bool or is_leaf(tree)


def item(value: Any) -> Any:
    """The number in a tensor that has one; anything else as it is."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def said(value: object, most: int = _SAID) -> str:
    r"""A text from another machine as one line that can be printed: without control characters, and not too long.

    Args:
        value: The text; of anything else, what Python shows of it.
        most: How many characters of it to print.

    Example:
        >>> said("too few\nimages\x1b[2J"), said(" \n")
        ('too few images?[2J', '')
    """
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[:most].split()) + ("..." if len(text) > most else "")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shown(value: object) -> str:
    r"""A value from outside in a message: short, between quotes if it is a text, and in ASCII.

    Example:
        >>> shown("too\nfew"), shown(7)
        ("'too\\nfew'", '7')
    """
    return said(ascii(value), _SHOWN)


def same(found: Any, expected: Any, close: float = 0.0) -> bool:
    """Whether nested values are equal, also in their types.

    Args:
        found: The values.
        expected: What they should be.
        close: How much numbers with fractions may differ, relative to their size: another machine's ``cos`` may differ
            in the last bit.
    """
    if type(found) is not type(expected):
        return False
    if isinstance(found, Mapping):
        return found.keys() == expected.keys() and all(same(found[name], expected[name], close) for name in found)
    if isinstance(found, list | tuple):
        return len(found) == len(expected) and all(same(*pair, close) for pair in zip(found, expected, strict=True))
    if isinstance(found, Tensor):
        return found.dtype == expected.dtype and found.shape == expected.shape and equal(found, expected)
    if isinstance(found, float):
        return math.isclose(found, expected, rel_tol=close, abs_tol=close) or found == expected
    return bool(found == expected)


def alike(found: Any, expected: Any) -> bool:
    """Whether nested values have the same names and types, and numbers are finite; a count stays one."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(alike(found[name], expected[name]) for name in found)
    if isinstance(found, list | tuple) and type(found) is type(expected):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(found, Tensor) and isinstance(expected, Tensor):
        fits = found.dtype == expected.dtype and found.shape == expected.shape and found.numel() == 1
        return fits and alike(found.item(), expected.item())
    if type(found) is type(expected) is int:
        return is_count(found) or found == expected
    if type(found) in (int, float) and type(expected) in (int, float):
        return is_number(found) or found == expected  # such as the infinity that a best value begins with
    return type(found) is type(expected) and (type(found) is bool or bool(found == expected))
