"""Classes and their settings in words, as a paper names them: ``Adam (lr 0.001)``."""

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from lit_dist.utils.signatures import imported, parameters

_LONGEST = 80


def described(settings: Any, without: Container[str] = (), always: Container[str] = ()) -> str:
    """A class with those of its settings that are not its defaults.

    Args:
        settings: A mapping with ``class_path`` and ``init_args``, or the name of a class.
        without: Settings that are left out.
        always: Settings that are named even where they are the default.

    Example:
        >>> import torch
        >>> described({"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01, "amsgrad": False}}, always=["lr"])
        'Adam (lr 0.01)'
    """
    if not isinstance(settings, Mapping):
        return name_of(str(settings))
    path = str(settings.get("class_path"))
    kind = imported(path)
    defaults = {name: each.default for name, each in parameters(kind)[0].items()} if isinstance(kind, type) else {}
    given = {**(settings.get("init_args") or {}), **(settings.get("dict_kwargs") or {})}
    told = [
        f"{name} {value_of(value)}"
        for name, value in given.items()
        if name not in without and (name in always or not _same(value, defaults.get(name)))
    ]
    return name_of(path) + (f" ({', '.join(told)})" if told else "")


def name_of(path: str) -> str:
    """The name of a class: of one of this project's, torch's or Lightning's alone, of another's with its module.

    Example:
        >>> name_of("lit_dist.callbacks.FedProx"), name_of("mine.models.Net")
        ('FedProx', 'mine.models.Net')
    """
    known = path.partition(".")[0] in ("lit_dist", "lightning", "torch", "torchvision", "albumentations")
    return path.rpartition(".")[2] if known else path


def value_of(value: Any) -> str:
    """A setting's value in words; of a path from the root, a home or a folder above, the last part.

    Example:
        >>> value_of("/home/me/weights.pt"), value_of("FEV1/FVC")
        ('weights.pt', 'FEV1/FVC')
    """
    if isinstance(value, Mapping):
        if "class_path" in value:
            return described(value)
        return ", ".join(f"{name} {value_of(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        text = f"[{', '.join(map(value_of, value))}]"
        return text if len(text) <= _LONGEST else f"of {len(value)} values, see study.yaml"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if re.match(r"(/|~|\.\.|[A-Za-z]:[\\/]|\\\\)", text):
        text = re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _same(value: Any, default: Any) -> bool:
    """Whether a value of a configuration, where a tuple is a list, is the default."""
    return value is None or value == (list(default) if isinstance(default, tuple) else default)


def listed(parts: Iterable[str]) -> str:
    """Several things as a sentence lists them."""
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def counted(number: int, unit: str, plural: str = "s") -> str:
    """A number of things, such as ``1 epoch``."""
    return f"{number} {unit}{'' if number == 1 else plural}"
