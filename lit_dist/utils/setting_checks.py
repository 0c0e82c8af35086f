"""Checks of a constructor's arguments, with one message for all of a kind."""

from collections.abc import Collection

from lit_dist.utils.errors import InputError
from lit_dist.utils.signatures import parameters


def check_arguments(kind: type, given: Collection[str]) -> None:
    """Raise ``InputError`` for the name of an argument that a class sets itself, or does not take."""
    known, _ = parameters(kind)
    for name in given:
        if name in getattr(kind, "fixed_arguments", ()):
            raise InputError(f"{kind.__name__} sets {name} itself; leave it out")
        if name not in known:
            raise InputError(f"{kind.__name__} has no argument {name!r}; it has {', '.join(known)}")


def check_choice(choices: Collection[object], **settings: object) -> None:
    """Raise ``InputError`` for a setting that is not one of the choices.

    Example:
        >>> check_choice(("min", "max"), mode="least")
        Traceback (most recent call last):
        ...
        lit_dist.utils.errors.InputError: mode='least' is not one of min, max
    """
    for name, value in settings.items():
        if value not in tuple(choices):
            raise InputError(f"{name}={value!r} is not one of {', '.join(map(str, choices))}")


def check_range(least: float, most: float, **settings: float) -> None:
    """Raise ``InputError`` for a setting that does not lie between two numbers."""
    for name, value in settings.items():
        if not least <= value <= most:
            raise InputError(f"{name}={value} does not lie between {least} and {most}")


def check_number(least: float, most: float, **settings: float) -> None:
    """Raise ``InputError`` for a setting that is not a number, or does not lie between two.

    Example:
        >>> check_number(0, 1, decay=True)
        Traceback (most recent call last):
        ...
        lit_dist.utils.errors.InputError: decay=True is not a number from 0 to 1
    """
    for name, value in settings.items():
        if type(value) not in (int, float) or not least <= value <= most:
            raise InputError(f"{name}={value!r} is not a number from {least:g} to {most:g}")


def check_count(least: int, most: int, **settings: int) -> None:
    """Raise ``InputError`` for a setting that is not a whole number, or does not lie between two.

    Example:
        >>> check_count(1, 9, cycles=1.5)
        Traceback (most recent call last):
        ...
        lit_dist.utils.errors.InputError: cycles=1.5 is not a whole number from 1 to 9
    """
    for name, value in settings.items():
        if type(value) is not int or not least <= value <= most:
            raise InputError(f"{name}={value!r} is not a whole number from {least} to {most}")
