"""Choosing classes of a collection by name, number or range, and joining some into one."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from lit_dist.utils.errors import InputError

Classes = int | list[int | str] | dict[str, list[int | str]] | None
"""How many classes, which ones, or which ones together make a class of a new name; None takes all."""

_RANGE = re.compile(r"(\d{1,7})-(\d{1,7})")


def choose_classes(known: Sequence[str], classes: Classes, where: str) -> dict[str, list[str]]:
    """Find the classes that a setting names.

    Args:
        known: The names of all classes, in their order.
        classes: A number takes the first ones. A list has names, numbers from 0 in the order of ``known``, and ranges
            of numbers such as ``"151-268"``, both ends included. A mapping gives such lists new names.
        where: What to call the place of the classes in a message.

    Returns:
        For each class, in the order of its label, the names of what it is made of.

    Raises:
        InputError: If a class is not there or chosen twice, or a number may mean two.
    """
    if classes is None:
        chosen = {name: [name] for name in known}
    elif isinstance(classes, int):
        if isinstance(classes, bool) or not 2 <= classes <= len(known):
            raise InputError(f"classes={classes}: choose from 2 to {len(known)}, which {where} has")
        chosen = {name: [name] for name in known[:classes]}
    elif isinstance(classes, Mapping):
        chosen = {name: _found(known, wanted, where) for name, wanted in classes.items()}
        _refuse_repeats([part for parts in chosen.values() for part in parts])
    else:
        names = _found(known, classes, where)
        _refuse_repeats(names)
        chosen = {name: [name] for name in names}
    return chosen


def _found(known: Sequence[str], wanted: Sequence[int | str], where: str) -> list[str]:
    if not wanted:
        raise InputError("classes has an empty list; name a class, or leave classes out")
    names = set(known)
    return [name for item in wanted for name in _meant(known, names, item, where)]


def _meant(known: Sequence[str], names: set[str], item: int | str, where: str) -> Sequence[str]:
    if isinstance(item, str):
        if item in names:
            return [item]
        ends = _RANGE.fullmatch(item)
        if ends is None or not int(ends[1]) <= int(ends[2]) < len(known):
            raise InputError(f"classes: there is no class {item!r} in {where}, which has {len(known)}")
        return known[int(ends[1]) : int(ends[2]) + 1]
    if not 0 <= item < len(known):
        raise InputError(f"classes: {item} is not the number of a class; {where} has {len(known)}, from 0")
    if str(item) in names and known[item] != str(item):
        raise InputError(
            f"classes: {item} may mean the class of that name or {known[item]!r}; write the names in quotes"
        )
    return [known[item]]


def _refuse_repeats(names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"classes: a class stands twice: {name!r}")
