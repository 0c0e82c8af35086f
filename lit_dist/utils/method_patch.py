"""A stand-in for one method of one object."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


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
        self._owner, self._name = owner, name
        self._own = vars(owner).get(name)  # what stood in the object itself; a method of its class does not
        self._call = replacement

        @wraps(replacement)
        def standing(*args: Any, **kwargs: Any) -> Any:
            return self._call(*args, **kwargs)

        standing.of = self  # type: ignore[attr-defined]
        setattr(owner, name, standing)

    def lift(self) -> None:
        """Give the object its own method back; another patch that was put over this one stays."""
        self._call = self.original
        own = vars(self._owner).get(self._name)
        while (patch := getattr(own, "of", None)) and patch._call is patch.original:
            own = patch._own
        if own is not None:
            setattr(self._owner, self._name, own)
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
