"""A stand-in for one method of one object."""

from collections.abc import Callable
from typing import Any


class MethodPatch:
    """Replaces a method of one object until ``lift`` is called.

    The replacement is an instance attribute, so the class and other objects of it are untouched.

    Args:
        owner: The object.
        name: The method's name.
        replacement: A plain function. (A bound method would be copied along with its object by ``copy.deepcopy``.)
    """

    def __init__(self, owner: object, name: str, replacement: Callable[..., Any]) -> None:
        self.original: Callable[..., Any] = getattr(owner, name)
        self._owner = owner
        self._name = name
        self._before = vars(owner).get(name)
        setattr(owner, name, replacement)

    def lift(self) -> None:
        """Give the object its own method back."""
        if self._before is not None:
            setattr(self._owner, self._name, self._before)
        else:
            vars(self._owner).pop(self._name, None)
