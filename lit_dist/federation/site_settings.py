"""SiteSettings and ServerSettings: what a site's own ``site.yaml`` says, and a server's ``server.yaml``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lit_dist.federation.counts import Limits
from lit_dist.utils.errors import InputError
from lit_dist.utils.yaml_text import read_yaml

Settings = dict[str, Any]

OF_SITE = ("accelerator", "devices", "num_nodes", "strategy", "plugins", "logger")
"""The settings of the trainer that are each site's own."""

ALL = "all"
"""What a ``site.yaml`` says under ``metrics`` to let all of them leave the site."""

_METRICS = f"a list of names, such as [train_loss, val_loss], [] for none, or {ALL}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings(Limits):
    """A site's own settings: ``site.yaml``, its limits among them.

    Attributes:
        data: The datamodule of this site's images, as ``class_path`` and ``init_args``.
        trainer: What differs in this site's trainer: its hardware, and a logger of its own while the model travels.
        classes: Further classes that a run may name, beside those that ``class_list`` ships.
        backbones: The backbones that a run may train; None allows all.
        max_parameters: The greatest number of weights, buffers among them, that a run's network may have.
        min_images: The least number of training images with which the site takes part.
        min_records: The least number of records that a sum or count of a table's columns is of, which leaves the site
            so that a model can be prepared; None lets none leave, and the site takes no part in such a run.
        metrics: The metrics that may leave the site; None lets all.
        folder: Where the site keeps what stays between two visits; None takes a folder of the engine's.
    """

    data: Settings
    trainer: Settings = field(default_factory=dict)
    classes: Sequence[str] = ()
    backbones: Sequence[str] | None = None
    max_parameters: int = 10**9
    min_images: int = 1
    min_records: int | None = None
    metrics: Sequence[str] | None = None
    folder: str | None = None

    @classmethod
    def read(cls, path: Path) -> "SiteSettings":
        """Read a ``site.yaml``; one that is missing, or has another form, is an ``InputError``."""
        if not path.exists():
            raise InputError(f"there is no {path}; this site's own settings belong there")
        settings = _read(path, [name for name in _FORMS if name != "runs"])
        others = [name for name in settings.get("trainer", {}) if name not in OF_SITE]
        if others:
            raise InputError(
                f"{path}: {others[0]!r} of the trainer is not the site's to set; only {', '.join(OF_SITE)}"
            )
        if "class_path" not in settings.get("data", {}):
            raise InputError(f"{path} has no data with a class_path, which names this site's datamodule")
        if "metrics" not in settings:  # so that none leaves because nobody thought of it
            raise InputError(f"{path} does not say which metrics may leave the site; metrics must be {_METRICS}")
        metrics = settings["metrics"]
        return cls(**{**settings, "metrics": None if metrics == ALL else metrics})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A server's own settings: ``server.yaml``, which may be left out.

    Attributes:
        classes: Further classes that a run may name, beside those that ``class_list`` ships.
        runs: The folder that runs are inside of; None takes ``runs`` in the server's workspace.
    """

    classes: Sequence[str] = ()
    runs: str | None = None

    @classmethod
    def read(cls, path: Path) -> "ServerSettings":
        """Read a ``server.yaml``, if there is one; one of another form is an ``InputError``."""
        return cls(**_read(path, ["classes", "runs"])) if path.exists() else cls()


def _read(path: Path, names: Sequence[str]) -> Settings:
    settings: Any = read_yaml(path)
    if not isinstance(settings, dict):
        raise InputError(f"{path} holds no settings by name")
    for name, value in settings.items():
        if name == "modules":
            raise InputError(
                f"{path}: modules is not taken: a run names classes one by one; leave modules out, and name under"
                " classes those of your own, such as classes: [mylab.models.Net]"
            )
        if name not in names:
            raise InputError(f"{path}: there is no setting {name!r}; there are {', '.join(names)}")
        fits, what = _FORMS[name]
        if not fits(value) and not (value is None and name in _MAY_BE_NONE):
            raise InputError(f"{path}: {name} is {value!r}; it must be {what}")
    return settings


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


_LIMITS = tuple(each.name for each in fields(Limits))
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": (_is(dict), "class_path and init_args"),
    "trainer": (_is(dict), "settings by name"),
    "classes": (_is_list, "a list of classes, such as [mylab.models.Net]"),
    "backbones": (_is_list, "a list of names, such as [resnet34]"),
    **dict.fromkeys(
        (*_LIMITS, "max_parameters", "min_images", "min_records"),
        (lambda value: type(value) is int and value >= 1, "a whole number from 1"),
    ),
    "metrics": (lambda value: value == ALL or _is_list(value), _METRICS),
    **dict.fromkeys(("folder", "runs"), (_is(str), "a folder's path")),
}
_MAY_BE_NONE = (*_LIMITS, "backbones", "folder", "min_records")
