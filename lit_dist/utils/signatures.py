"""What a class's constructor takes, as its annotations say it."""

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, NewType, TypeVar, Union, get_args, get_origin, get_type_hints


class Unresolved:
    """Stands for an annotation that cannot be evaluated."""


_UNTYPED = (inspect.Parameter.empty, object, Any, Unresolved)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a constructor.

    Attributes:
        annotation: Its type; ``Any`` if it has none, and ``Unresolved`` if it has one that cannot be evaluated.
        default: Its default; ``inspect.Parameter.empty`` if it must be given.
    """

    annotation: Any
    default: Any


def parameters(kind: type, skip: int = 0) -> tuple[dict[str, Parameter], bool]:
    """What a class's constructor takes by name, with what its ``**kwargs`` pass on to the classes it inherits from.

    What it gives these itself, it names in ``fixed_arguments``.

    Args:
        kind: The class.
        skip: How many of the first parameters are given by whoever makes the object.

    Returns:
        The parameters by name, and whether there may be others, since the last constructor takes any name.
    """
    found: dict[str, Parameter] = {}
    given_by_others: set[str] | None = None
    for base in kind.__mro__:
        init = vars(base).get("__init__")
        if not inspect.isfunction(init):
            continue
        given = list(inspect.signature(init).parameters.values())[1:]
        if given_by_others is None:
            given_by_others = {each.name for each in given[:skip]}
        hints = _hints(init)
        for each in given:
            named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
            if named and each.name not in given_by_others and each.name not in getattr(kind, "fixed_arguments", ()):
                found.setdefault(each.name, Parameter(hints.get(each.name, Any), each.default))
        if not any(each.kind is each.VAR_KEYWORD for each in given):
            return found, False
    return found, True


def _hints(init: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(init)
    except Exception:  # a name that only a type checker imports, or any expression that cannot be evaluated
        return {name: _hint(init, annotation) for name, annotation in inspect.get_annotations(init).items()}


def _hint(init: Callable[..., Any], annotation: Any) -> Any:
    """One annotation alone, so that a name that cannot be found costs no other parameter its type."""
    alone = types.FunctionType((lambda: None).__code__, getattr(init, "__globals__", {}))
    alone.__annotations__ = {"this": annotation}
    try:
        return get_type_hints(alone)["this"]
    except Exception:
        return Unresolved


def alternatives(annotation: Any) -> Iterator[Any]:
    """The types of which an annotation takes one, without unions and aliases; ``Any`` for what is not typed."""
    if get_origin(annotation) in (Union, UnionType):
        for each in get_args(annotation):
            yield from alternatives(each)
    elif get_origin(annotation) is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif isinstance(annotation, NewType):
        yield from alternatives(annotation.__supertype__)
    elif type(annotation).__name__ == "TypeAliasType":  # of Python 3.12
        yield from alternatives(annotation.__value__)
    elif isinstance(annotation, TypeVar | str | ForwardRef) or annotation in _UNTYPED:
        yield Any
    else:
        yield NoneType if annotation is None else annotation


def made(annotation: Any) -> list[tuple[type, int]]:
    """The classes of which an annotation takes objects, or what makes them.

    Returns:
        Each class, and with how many arguments it will be called; -1 if an object of it is wanted.

    Example:
        >>> from collections.abc import Callable, Iterable
        >>> from torch.optim import Optimizer
        >>> made(Callable[[Iterable], Optimizer] | Optimizer | None)[0]
        (<class 'torch.optim.optimizer.Optimizer'>, 1)
    """
    found: list[tuple[type, int]] = []
    for each in alternatives(annotation):
        if get_origin(each) is Callable and get_args(each):
            given, result = get_args(each)
            count = len(given) if isinstance(given, list) else 0
            found += [(kind, count) for kind, calls in made(result) if calls < 0]
        elif _is_class(each):
            found.append((get_origin(each) or each, -1))
    return found


def _is_class(each: Any) -> bool:
    kind = get_origin(each) or each
    return isinstance(kind, type) and kind.__module__ not in ("builtins", "collections.abc", "typing", "types")


def imported(name: str) -> Any:
    """What has been imported under a name; None if it is not there."""
    module = name
    while module not in sys.modules and "." in module:
        module = module.rpartition(".")[0]
    found: Any = sys.modules.get(module)
    for part in name.removeprefix(module).split(".")[1:]:
        found = getattr(found, part, None)
    return found
