"""A stand-in for one method of one object."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary


class MethodPatch:
    """Replaces a method of one object until ``lift`` is called.

    The replacement is an instance attribute, so the class and other objects of it are untouched. Several patches of one
    method can be lifted in any order.

    Args:
        owner: The object.
        name: The method's name.
        replacement: A plain function. (A bound method would be copied along with its object by ``copy.deepcopy``.)

    Attributes:
        original: What the method was without this patch.
    """

    def __init__(self, owner: object, name: str, replacement: Callable[..., Any]) -> None:
        self.original: Callable[..., Any] = getattr(owner, name)
        self._owner = owner
        self._name = name
        self._own = vars(owner).get(name)  # what stood in the object itself; a method of its class does not
        self._above: MethodPatch | None = None
        self._below = _newest.get((id(owner), name))
        if self._below is not None:
            self._below._above = self
        _newest[id(owner), name] = self
        setattr(owner, name, replacement)

    def lift(self) -> None:
        """Give the object its own method back; where another patch was put over this one, when that is lifted, too."""
        if self._below is not None:
            self._below._above = self._above
        if self._above is not None:
            self._above.original, self._above._own = self.original, self._own
            self._above._below = self._below
            return
        if self._below is not None:
            _newest[id(self._owner), self._name] = self._below
        else:
            _newest.pop((id(self._owner), self._name), None)
        if self._own is not None:
            setattr(self._owner, self._name, self._own)
        else:
            vars(self._owner).pop(self._name, None)


@contextmanager
def patched(owner: object, **methods: Callable[..., Any]) -> Iterator[None]:
    """Replace methods of one object in the block, each by the plain function of its name."""
    patches = [MethodPatch(owner, name, method) for name, method in methods.items()]
    try:
        yield
    finally:
        for patch in patches:
            patch.lift()


_newest: WeakValueDictionary[tuple[int, str], MethodPatch] = WeakValueDictionary()
"""The last patch of each method, by the identity of its object, which the patch keeps alive."""
