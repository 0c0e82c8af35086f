"""What a site or a server takes of a run's settings, and what stays its own."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import NoneType
from typing import Any

from lit_dist.federation.refusal import Refusal
from lit_dist.federation.site_settings import Settings, SiteSettings
from lit_dist.federation.typed_settings import check_plain
from lit_dist.utils.plain_bounds import shown

OF_RUN = (
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "overfit_batches"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("val_check_interval", "check_val_every_n_epoch", "log_every_n_steps", "reload_dataloaders_every_n_epochs"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "precision", "sync_batchnorm"),
    *("deterministic", "benchmark", "inference_mode", "use_distributed_sampler", "detect_anomaly"),
)
"""The settings of the trainer, beside its callbacks, that a run decides: those of what a visit does."""

_HARMLESS: dict[str, tuple[Any, ...]] = {
    "devices": ("auto", 1),
    "num_nodes": (1,),
    "strategy": ("auto",),
    "plugins": (None, []),
    "profiler": (None,),
    "default_root_dir": (None,),
    "model_registry": (None,),
}
"""What a machine's own may be in a run at a site: what it is in any case."""

_PLACES = {"dirpath": "checkpoints", "exclude_batches_path": "left_out_batches.json", "baton_dir": None}
"""What a callback's places are at a site."""

FOLDERS = ("save_dir", "dir", "dirpath")
"""The settings of loggers and callbacks that name a folder, at the server."""

_LONGEST = 2**20  # letters of a run's settings as JSON
# Of metrics in braces the names stand in the file's name, too; and {step:c} could be a slash.
_FILE_NAME = re.compile(r"(?:\{\w[\w/]{0,63}(?::0?\d?(?:\.\d)?[dfeg]?)?\}|[\w ,=.+-]){0,200}")
_MOST_CALLBACKS, _MOST_CHECKPOINTS = 32, 5


def read_run(text: Any) -> Settings:
    """The settings of a run, of the JSON that a job brings; ``Refusal`` if they are too long, or none."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise Refusal(f"the run's settings are not text of at most {_LONGEST} letters")
    try:
        run = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal("the run's settings are not valid JSON") from None
    check_run(run)
    return run  # type: ignore[no-any-return]


def check_run(run: Any) -> None:
    """Raise ``Refusal`` unless settings are plain, and have the form of a run's."""
    check_plain(run)
    parts = ("seed_everything", "model", "data", "trainer")
    if type(run) is not dict or type(run.get("model")) is not dict or type(run.get("trainer")) is not dict:
        raise Refusal(f"the run has no settings of a model and a trainer; a run has {', '.join(parts)}")
    if type(run["model"].get("init_args")) not in (dict, NoneType):
        raise Refusal(f"model.init_args is {shown(run['model']['init_args'])}; it must be settings by name")
    for name in run.keys() - {*parts}:
        raise Refusal(f"the run has the setting {shown(name)}; a run has {', '.join(parts)}")
    for name in ("fast_dev_run", "barebones"):
        if run["trainer"].get(name):
            raise Refusal(f"the run has trainer.{name}, which a federation does not make; leave it out")
    seed = run.get("seed_everything", 0)
    if seed is not False and not (type(seed) is int and 0 <= seed < 2**32):
        raise Refusal(f"seed_everything is {shown(seed)}; it must be a whole number from 0 to 2**32 - 1")


def check_policy(run: Settings, own: SiteSettings) -> None:
    """Raise ``Refusal`` if a site, by its own settings, takes no part in a run of these settings."""
    check_run(run)
    trainer = run["trainer"]
    for name, allowed in _HARMLESS.items():
        value = trainer.get(name, allowed[0])
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise Refusal(f"the run has trainer.{name}={shown(value)}, which is each site's own, in its site.yaml")
    if type(trainer.get("accelerator", "auto")) is not str:
        raise Refusal("the run has an accelerator, which is each site's own, in its site.yaml")
    arguments = run["model"].get("init_args") or {}
    if arguments.get("compiled"):
        raise Refusal("the run has compiled: true, which would start compilers at the site; leave it out")
    _check_callbacks(trainer.get("callbacks"))
    backbone = arguments.get("backbone")
    if own.backbones is not None and backbone not in own.backbones:
        raise Refusal(f"its site.yaml allows the backbones {', '.join(own.backbones)}, not {shown(backbone)}")
    epochs = trainer.get("max_epochs")
    if own.max_epochs is not None and not (type(epochs) is int and 1 <= epochs <= own.max_epochs):
        raise Refusal(f"its site.yaml allows {own.max_epochs} epochs, and the run has {shown(epochs)}")


def _check_callbacks(given: Any) -> None:
    """Hold what a run's callbacks may leave on the site's disk."""
    callbacks = [each for each in (given if type(given) is list else [given]) if type(each) is dict]
    if len(callbacks) > _MOST_CALLBACKS:
        raise Refusal(f"the run has {len(callbacks)} callbacks; a site takes {_MOST_CALLBACKS}")
    checkpoints = [each for each in callbacks if str(each.get("class_path")).endswith("ModelCheckpoint")]
    if len(checkpoints) > 1:
        raise Refusal(f"the run has {len(checkpoints)} ModelCheckpoint callbacks; a site takes one")
    for each in checkpoints:
        arguments = each.get("init_args")
        kept = arguments.get("save_top_k", 1) if type(arguments) is dict else 1
        if type(kept) is not int or not 0 <= kept <= _MOST_CHECKPOINTS:
            raise Refusal(f"save_top_k is {shown(kept)}; a site keeps from 0 to {_MOST_CHECKPOINTS} of a run")


def of_site(trainer: Settings) -> Settings:
    """What a job takes to the sites of a trainer's settings: those of the run, not the server's or the sites' own."""
    return {name: value for name, value in trainer.items() if name in (*OF_RUN, "callbacks")}


def without_own(trainer: Settings) -> Settings:
    """The settings of a trainer without callbacks and without what is each machine's own."""
    own = ("accelerator", "callbacks", *_HARMLESS)
    return {name: value for name, value in trainer.items() if name not in own or name == "profiler"}


def inside(callback: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A callback's settings, with a folder of its own for the files that it writes.

    One that names another place of the machine is a ``Refusal``.
    """
    given: Settings = callback.get("init_args") or {}
    for name, value in given.items():
        if name not in _PLACES:
            check_places(value, name, "the site")
    own = {name: place and str(folder / place) for name, place in _PLACES.items() if given.get(name)}
    return {**callback, "init_args": {**given, **own}} if own else dict(callback)


def check_places(tree: Any, name: str, whose: str) -> None:
    """Raise ``Refusal`` for a text that names a place of a machine, or a file's name that could become one.

    Args:
        tree: A setting, and those in it.
        name: Its name.
        whose: Whose machine it is.
    """
    if isinstance(tree, dict):
        inner = tree.get("init_args") if "class_path" in tree else None
        for key in (*FOLDERS, *_PLACES):
            if isinstance(inner, dict) and isinstance(inner.get(key), str):
                raise Refusal(f"the run names a place of {whose}'s machine ({key}, within {name}); leave it out")
        for key, value in tree.items():
            check_places(value, str(key), whose)
    elif isinstance(tree, list):
        for each in tree:
            check_places(each, name, whose)
    if isinstance(tree, str) and is_place(tree):
        raise Refusal(f"the run names a place of {whose}'s machine ({name}: {shown(tree)}); leave it out")
    if name == "filename" and isinstance(tree, str) and not _FILE_NAME.fullmatch(tree):
        raise Refusal(f"filename is {shown(tree)}; it must be letters and digits, and metrics in braces")


def is_place(text: str) -> bool:
    """Whether a text names a place outside of a folder that it would be joined to."""
    posix, windows = PurePosixPath(text), PureWindowsPath(text)
    outside = posix.is_absolute() or windows.is_absolute() or windows.drive or ".." in windows.parts
    return bool(outside) or text.startswith("~") or "://" in text
