"""A site's policy: which runs it takes part in, and that a run names no function and no place of the site's machine."""

import pydoc
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from lit_dist.federation.refusal import Refusal
from lit_dist.federation.site_settings import Settings, SiteSettings

_PLACES = {"dirpath": "checkpoints", "exclude_batches_path": "left_out_batches.json", "baton_dir": None}
"""What a callback's places are at a site."""


def check_policy(run: Settings, own: SiteSettings) -> None:
    """Compare a run's settings with what a site allows.

    Args:
        run: The run's settings.
        own: The site's.

    Raises:
        Refusal: If the site takes no part in such a run.
    """
    for key, text in _texts({name: value for name, value in run.items() if name != "data"}):
        _check_name(key, text, own.modules)
    backbone = (run["model"].get("init_args") or {}).get("backbone")
    if own.backbones is not None and backbone not in own.backbones:
        raise Refusal(f"its site.yaml allows the backbones {', '.join(own.backbones)}, not {backbone}")
    epochs = run["trainer"].get("max_epochs")
    if own.max_epochs is not None and not (isinstance(epochs, int) and 1 <= epochs <= own.max_epochs):
        raise Refusal(f"its site.yaml allows {own.max_epochs} epochs, and the run has {epochs}")


def inside(callback: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A callback's settings, with the site's own folder for the files that it writes.

    Args:
        callback: The settings, as ``class_path`` and ``init_args``.
        folder: The folder.

    Raises:
        Refusal: If another place outside is named.
    """
    given: Settings = callback.get("init_args") or {}
    for key, text in _texts({name: value for name, value in given.items() if name not in _PLACES}):
        if PurePath(text).is_absolute() or text.startswith("~") or ".." in PurePath(text).parts:
            raise Refusal(f"a callback of the run names a place of the site's machine ({key}: {text}); leave it out")
    own = {name: place and str(folder / place) for name, place in _PLACES.items() if given.get(name)}
    return {**callback, "init_args": {**given, **own}}


def _texts(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The texts in nested settings, each with its key."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _texts(value, str(name))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _texts(value, key)
    elif isinstance(tree, str):
        yield key, tree


def _check_name(key: str, text: str, modules: Collection[str]) -> None:
    """Refuse the name of a class or function from outside some packages: the parser would import it."""
    if text.rpartition(".")[2] == "LambdaCallback":
        raise Refusal("the run has a LambdaCallback, which calls any function that it names; a site takes none")
    if "." not in text or not all(part.isidentifier() for part in text.split(".")):
        return
    if not _is_of(text, modules):
        if key == "class_path" or _is_module(text.partition(".")[0]):
            raise Refusal(f"its site.yaml lets a run name classes of {', '.join(modules)}, not {text}")
        return
    # Many a module has others among its names: torch.os.system is of os.
    found = pydoc.locate(text)
    home = getattr(found, "__module__", None) or getattr(found, "__name__", "")
    if found is not None and not _is_of(str(home), modules):
        raise Refusal(f"its site.yaml lets a run name classes of {', '.join(modules)}, not {text}, which is of {home}")


def _is_of(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _is_module(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None
