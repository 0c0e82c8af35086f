"""Refuses settings in which a class stands that the setting does not want, before anything of them is called."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn

from lit_dist.utils.errors import InputError
from lit_dist.utils.signatures import alternatives, imported, made, parameters

# A class among settings of no type stays data. No setting names what runs programs, reads pickles or writes files; of
# what is installed with torch, sympy evaluates texts.
set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=["sympy"])


def check_kinds(settings: Any) -> None:
    """Check the classes of parsed settings of ``fit``: ``model``, ``data`` and ``trainer``.

    The parser itself sees to it where an object of a class is wanted. Where something to be called is wanted, such as
    what makes an optimizer, it would call any function by its name, with arguments from the settings.

    Raises:
        InputError: If a setting names a function, or a class of another kind than it wants.
    """
    wanted: dict[str, Any] = {"model": LightningModule, "data": LightningDataModule}
    for name, annotation in wanted.items():
        check_kind(settings.get(name), annotation, name)
    _check_arguments(settings.get("trainer"), Trainer, "trainer")


def check_kind(value: Any, annotation: Any, where: str) -> None:
    """Check the classes of one parsed setting.

    Args:
        value: The setting.
        annotation: What is wanted there.
        where: Its place, for the message.

    Raises:
        InputError: As ``check_kinds``.
    """
    if isinstance(value, Namespace) and "class_path" in value:
        _check_class(value, annotation, where)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            check_kind(each, _element(annotation, -1), f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            check_kind(each, _element(annotation, 0), f"{where}[{number}]")


def _element(annotation: Any, number: int) -> Any:
    """What the elements of a list, or the values of a dictionary, may be; of several kinds, any of those."""
    held = [each for each in alternatives(annotation) if get_origin(each) not in (None, Literal, Callable, type)]
    elements = tuple(get_args(each)[number] for each in held)
    return Union[elements] if elements else Any  # noqa: UP007


def _check_class(value: Namespace, annotation: Any, where: str) -> None:
    named = imported(value.class_path)
    kinds = made(annotation)
    takes_any = any(each is Any for each in alternatives(annotation))
    is_class = inspect.isclass(named)
    objects = [kind for kind, calls in kinds if calls < 0]
    if not is_class and not objects:  # of objects, the parser lets functions make some that say so by their annotations
        raise InputError(
            f"{where} names {value.class_path!r}, which is not a class; give a class"
            + (f" of the kind {' or '.join(kind.__name__ for kind, _ in kinds)}" if kinds else "")
        )
    if is_class and not takes_any:
        fitting = [kind for kind, _ in kinds] or [nn.Module]
        if not issubclass(named, tuple(fitting)):
            names = " or ".join(kind.__name__ for kind in fitting)
            raise InputError(f"{where} names {value.class_path!r}; what is wanted there is a class of the kind {names}")
    if is_class:
        _check_arguments(value.get("init_args"), named, f"{where}.init_args")


def _check_arguments(given: Any, kind: type, where: str) -> None:
    taken, _ = parameters(kind)
    for name, value in vars(given).items() if isinstance(given, Namespace) else ():
        check_kind(value, taken[name].annotation if name in taken else Any, f"{where}.{name}")
