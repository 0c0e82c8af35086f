"""Makes objects of a run's settings: of listed classes, with plain values of the types that the classes declare.

Nothing of the settings is parsed, imported or looked up by name; all is checked before the first object is made.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from lit_dist.federation.class_list import ClassList
from lit_dist.federation.refusal import Refusal
from lit_dist.utils.plain_bounds import shown
from lit_dist.utils.signatures import Unresolved, alternatives, made, parameters

Make = Callable[[], Any]
"""Makes what a setting names."""

_DEPTH, _VALUES, _LETTERS, _GREATEST = 16, 20_000, 4096, 2**63
_SEQUENCES = (list, Sequence, MutableSequence, Collection, Iterable)
_MAPPINGS = (dict, Mapping, MutableMapping)


def check_plain(settings: Any) -> None:
    """Raise ``Refusal`` unless settings are text, numbers, lists and dictionaries, and not more than anybody needs."""
    count = 0
    waiting: list[tuple[str, Any, int]] = [("", settings, 0)]
    while waiting:
        where, tree, depth = waiting.pop()
        count += 1
        if depth > _DEPTH or count > _VALUES:
            raise Refusal(f"the run's settings are nested {_DEPTH} times or have {_VALUES} values, or more")
        if type(tree) is dict:
            for name in tree:
                _check_key(name, where)
            waiting += [(join(where, name), value, depth + 1) for name, value in tree.items()]
        elif type(tree) is list:
            waiting += [(f"{where}[{number}]", value, depth + 1) for number, value in enumerate(tree[: _VALUES + 1])]
        else:
            _check_scalar(tree, where)


def _check_key(name: Any, where: str) -> None:
    if type(name) is not str or len(name) > _LETTERS or not name.isprintable() or "." in name or "+" in name:
        raise Refusal(
            f"{where or 'the run'} has the setting {shown(name)}; a setting's name is a word, without . and +"
        )


def _check_scalar(value: Any, where: str) -> None:
    if type(value) not in (str, bool, int, float, NoneType):
        raise Refusal(f"{where} is a {type(value).__name__}; a run's settings are text, numbers, lists and settings")
    if type(value) is str and (len(value) > _LETTERS or not value.isprintable()):
        raise Refusal(f"{where} is a text of more than {_LETTERS} letters, or has some that cannot be printed")
    if type(value) in (int, float) and not -_GREATEST < value < _GREATEST:  # NaN is neither
        raise Refusal(f"{where} is not a finite number below 2**63")


def join(where: str, name: str) -> str:
    """The name of a setting in another one."""
    return f"{where}.{shown(name)[1:-1]}" if where else shown(name)[1:-1]


class TypedSettings:
    """Checks settings, and gives what makes objects of them.

    Args:
        classes: Those that settings may name.
    """

    def __init__(self, classes: ClassList) -> None:
        self.classes = classes

    def instance(self, given: Any, kind: type, where: str) -> tuple[type, Make]:
        """A class with its arguments.

        Args:
            given: The setting, as ``class_path`` and ``init_args``.
            kind: What the class must be, or inherit from.
            where: The setting's name.

        Returns:
            The class, and what makes an object of it.

        Raises:
            Refusal: If the class is not on the list or of another kind, or an argument is not one that it takes.
        """
        return self._instance(given, [(kind, -1)], where)

    def arguments(self, given: Any, kind: type, where: str, skip: int = 0) -> dict[str, Make]:
        """The arguments of a class, by name; without those that are its own defaults.

        Args:
            given: Their settings.
            kind: The class.
            where: The name of the setting that they belong to.
            skip: How many of the first arguments are given by whoever makes the object.

        Raises:
            Refusal: If the class does not take one of them, or takes no value of its type.
        """
        if given is not None and type(given) is not dict:
            raise Refusal(f"{where} is {shown(given)}; it must be settings by name")
        taken, others = parameters(kind, skip)
        found: dict[str, Make] = {}
        for name, value in (given or {}).items():
            if name not in taken and not (others and name.isidentifier() and not name.startswith("_")):
                raise Refusal(f"{join(where, name)}: {kind.__name__} has no such setting; it has {', '.join(taken)}")
            if name in taken and _is_default(value, taken[name].default):
                continue
            annotation = taken[name].annotation if name in taken else Any
            if annotation is Unresolved:
                raise Refusal(f"{join(where, name)}: its type cannot be looked up, so that it has its default only")
            found[name] = self.value(value, annotation, join(where, name))
        return found

    def value(self, given: Any, annotation: Any, where: str) -> Make:
        """What makes the value of a type that a setting has; ``Refusal`` if the type has no such value."""
        if type(given) is dict and "class_path" in given:
            return self._instance(given, made(annotation), where)[1]
        types = list(alternatives(annotation))
        if type(given) is dict:
            found = self._mapping(given, types, where)
        elif type(given) is list:
            found = self._sequence(given, types, where)
        else:
            fitting = [value for each in types for value in _scalar(given, each)]
            fitting.sort(key=lambda value: type(value) is not type(given))
            found = (lambda: fitting[0]) if fitting else None
        if found is None:
            raise Refusal(f"{where} is {shown(given)}; it must be {_worded(annotation)}")
        return found

    def _instance(self, given: Any, kinds: list[tuple[type, int]], where: str) -> tuple[type, Make]:
        if type(given) is not dict or type(given.get("class_path")) is not str:
            raise Refusal(f"{where} is {shown(given)}; it must be class_path and init_args")
        others = given.keys() - {"class_path", "init_args"}
        if others:
            raise Refusal(f"{where} has {shown(min(others))}; a class has class_path and init_args, and nothing else")
        name = given["class_path"]
        for kind, calls in kinds:
            found = self.classes.find(name, kind)
            if found is not None:
                makes = self.arguments(given.get("init_args"), found, join(where, "init_args"), max(calls, 0))
                make = partial(_made_with, found, makes)
                return found, make if calls < 0 else partial(partial, make)  # what is to be called makes the object
        if kinds and self.classes.find(name) is None:
            raise Refusal(
                f"{where} names {shown(name)}, which is not one of the classes that a run is built of here; whoever it"
                " is up to can add it under classes in site.yaml (at the server, server.yaml)"
            )
        wanted = " or ".join(dict.fromkeys(kind.__name__ for kind, _ in kinds)) or "no class at all, but a plain value"
        raise Refusal(f"{where} names {shown(name)}; what is wanted there is {wanted}")

    def _sequence(self, given: list[Any], types: list[Any], where: str) -> Make | None:
        refusal: Refusal | None = None
        for each in types:
            container, elements = _elements(each, len(given))
            if container is None:
                continue
            try:
                parts = [
                    self.value(v, t, f"{where}[{n}]") for n, (v, t) in enumerate(zip(given, elements, strict=True))
                ]
            except Refusal as error:
                refusal = error
                continue
            return lambda: container(make() for make in parts)
        if refusal is not None:
            raise refusal
        return None

    def _mapping(self, given: dict[str, Any], types: list[Any], where: str) -> Make | None:
        for each in types:
            origin, args = get_origin(each) or each, get_args(each)
            if origin in _MAPPINGS:
                keys, values = args or (str, Any)
                names = {name: int(name) if keys is int and name.isdecimal() else name for name in given}
                wrong = [name for name in names.values() if keys is int and type(name) is not int]
                if wrong:
                    raise Refusal(f"{where} has {shown(wrong[0])}; its names must be whole numbers")
                makes = {names[name]: self.value(value, values, join(where, name)) for name, value in given.items()}
                return lambda: _made_all(makes)
        return None


def _elements(wanted: Any, count: int) -> tuple[type | None, list[Any]]:
    """The container that a type is, and the types of its elements; None if it is not one of so many."""
    container, args = get_origin(wanted) or wanted, get_args(wanted)
    if container is tuple and args and args[-1] is not Ellipsis:
        return (tuple, list(args)) if len(args) == count else (None, [])
    if container is not Any and container not in (*_SEQUENCES, tuple, set, frozenset):
        return None, []
    element = args[0] if args else str | bool | int | float | None
    return container if container in (tuple, set, frozenset) else list, [element] * count


def _scalar(given: Any, wanted: Any) -> list[Any]:
    """The value as one of a type, if it is one."""
    if wanted is Any or (wanted in (str, bool, int, float, NoneType) and type(given) is wanted):
        return [given]
    if get_origin(wanted) is Literal:
        return [each for each in get_args(wanted) if type(each) is type(given) and each == given]
    if wanted is float and type(given) is int:
        return [float(given)]
    if wanted is Path and type(given) is str:
        return [Path(given)]
    if isinstance(wanted, type) and issubclass(wanted, Enum) and type(given) is str:
        return [wanted[given]] if given in wanted.__members__ else []
    return []


def _is_default(given: Any, default: Any) -> bool:
    """Whether a value is a parameter's default, a function as the text that a configuration is saved with."""
    if inspect.isroutine(default) or inspect.isclass(default):
        return type(given) is str and given == f"{default.__module__}.{default.__qualname__}"
    return type(given) is type(default) and type(given) in (str, bool, int, float, NoneType) and given == default


def _worded(annotation: Any) -> str:
    kinds = " or ".join(dict.fromkeys(kind.__name__ for kind, _ in made(annotation) if kind is not Path))
    if kinds and not any(each is Any or each in (str, float, int) for each in alternatives(annotation)):
        return f"class_path and init_args of {kinds}"
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    return text.replace("typing.", "").replace("collections.abc.", "").replace("NoneType", "None")


def _made_with(kind: type, makes: Mapping[str, Make], *given: Any) -> Any:
    return kind(*given, **_made_all(makes))


def _made_all(makes: Mapping[Any, Make]) -> dict[Any, Any]:
    return {name: make() for name, make in makes.items()}
