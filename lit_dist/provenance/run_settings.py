"""The settings that decide what a visit does, and the versions of the programs that do it."""

import contextlib
import hashlib
import inspect
import json
import platform
from collections.abc import Iterator, Mapping
from dis import get_instructions
from functools import cache
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from lit_dist.provenance.plain_values import attributes, plain_json
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import synchronises_batch_norm

RULE = 2
"""The newest way of hashing settings. By the first, callbacks, values of tensors and arguments of schedules were left
out; a run that has begun with it resumes it. Where there is nothing of the kind, both give the same hash."""

WATCHERS = {
    *("BasePredictionWriter", "Checkpoint", "DeviceStatsMonitor", "EarlyStopping", "LearningRateMonitor"),
    *("ModelSummary", "ProgressBar", "SaveConfigCallback", "ThroughputMonitor", "Timer"),
}
"""Lightning's callbacks that watch a visit, and change nothing in it."""

_OF_THE_COURSE = {
    *("T_max", "epochs", "last_epoch", "optimizer", "steps_per_epoch", "total_iters", "total_steps", "verbose"),
}
"""Arguments of schedules that say how long the run is, or where it has got to."""

_SCHEDULED = {"params", "lr", "initial_lr", "max_lr", "min_lr", "momentum", "betas", "base_momentum", "max_momentum"}
"""What schedules change in an optimizer's groups."""


def settings_sha256(
    trainer: Trainer, transfer: Mapping[str, Any], callbacks: list[Any] | None = None, rule: int = RULE
) -> str:
    """Hash the settings of the module, the optimizers, the schedules, the callbacks, the transfer and the trainer.

    The length of the run, places of files, and the data are left out: sites that train one model together agree in the
    rest. So are callbacks that only watch. An object among the settings counts by its class and attributes; of
    optimizers the defaults count and in which groups differ, and of schedules the arguments, since the rest changes in
    the course of a run.

    Args:
        trainer: The trainer of a fit that has begun.
        transfer: The settings of the transfer callback.
        callbacks: Those of the other callbacks, as they were before the run; by default as they are.
        rule: The way of hashing.

    Returns:
        The SHA-256 of the settings as JSON, as 64 hexadecimal digits.

    Raises:
        InputError: If a setting cannot be hashed.
    """
    module = trainer.lightning_module
    settings: dict[str, Any] = {
        "module": [_name(module), dict(module.hparams)],
        "optimizers": [[_name(optimizer), optimizer.defaults] for optimizer in trainer.optimizers],
        "schedules": [
            [_name(config.scheduler), config.interval, config.frequency] for config in trainer.lr_scheduler_configs
        ],
        "transfer": dict(transfer),
        "trainer": {
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "gradient_clip_val": trainer.gradient_clip_val,
            "gradient_clip_algorithm": trainer.gradient_clip_algorithm,
            "precision": trainer.precision,
            "processes": trainer.world_size,
        },
    }
    if rule == 1:
        text = json.dumps(settings, sort_keys=True, default=_name)
    else:
        others = {
            "callbacks": callback_settings(trainer) if callbacks is None else callbacks,
            "groups": [_groups(optimizer) for optimizer in trainer.optimizers],
            "arguments of schedules": [_arguments(config.scheduler) for config in trainer.lr_scheduler_configs],
            "trainer": _unusual(trainer),
        }
        found = {name: value for name, value in others.items() if any(value)}
        text = plain_json({**settings, **({"rule": rule, "more": found} if found else {})}, _trained(trainer))
    return hashlib.sha256(text.encode()).hexdigest()


def callback_settings(trainer: Trainer) -> list[Any]:
    """What the callbacks are that take part in training: the class and the settings of each.

    A callback takes part unless it is one of Lightning's that only watch, or says so by ``takes_part = False``. Its
    settings are its constructor's arguments and all else that it holds under a name without an underscore, its class's
    own values included. Where it does not keep its arguments under their names (or those with an underscore before
    them), or takes ``*args`` or ``**kwargs``, all that it holds counts. To be called before training, which changes
    what callbacks hold; what a fit has changed, up to ``note_end``, counts in a later one as it was before it.
    """
    trained = _trained(trainer)
    return [[_name(each), plain_json(_given(each, trained))] for each in _taking_part(trainer)]


def note_end(trainer: Trainer) -> None:
    """Note what training has left in the callbacks, so that a later fit can tell it from changed settings."""
    trained = _trained(trainer)
    for each in _taking_part(trainer):
        with contextlib.suppress(TypeError, InputError):  # it cannot be a key; it cannot be hashed
            if seen := _SEEN.get(each):
                held = _settings_of(each)
                left = {name: plain_json(held[name], trained) if name in seen[0] else "" for name in held}
                _SEEN[each] = (seen[0], left)


def _taking_part(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [each for each in callbacks if getattr(each, "takes_part", True) and not _watches(type(each))]


def _trained(trainer: Trainer) -> frozenset[int]:
    module = trainer.lightning_module
    return frozenset(id(each) for tensors in (module.parameters(), module.buffers()) for each in tensors)


def _watches(kind: type) -> bool:
    """Whether it is defined by Lightning or here, as one that watches; what users make of these may do anything."""
    ours = kind.__module__.startswith(("lightning.", "pytorch_lightning.", "lit_dist."))
    return ours and _is_watcher(kind)


def _is_watcher(kind: type) -> bool:
    return any(each.__name__ in WATCHERS for each in _of_lightning(kind))


def _of_lightning(kind: type) -> list[type]:
    return [each for each in kind.__mro__ if each.__module__.startswith(("lightning.", "pytorch_lightning."))]


_SEEN: WeakKeyDictionary[Callback, tuple[dict[str, str], dict[str, str]]] = WeakKeyDictionary()
"""What callbacks were given before a fit, and what it has left in them."""


def _given(callback: Callback, trained: frozenset[int]) -> dict[str, str]:
    """A callback's settings as JSON, each as it was before the fit that has changed it."""
    held = {name: plain_json(value, trained) for name, value in _settings_of(callback).items()}
    try:
        before, left = _SEEN.get(callback, ({}, {}))
    except TypeError:  # it cannot be a key
        return held
    given = {name: before[name] if name in before and text == left.get(name) else text for name, text in held.items()}
    given = {name: text for name, text in given.items() if name in before or name not in left}
    _SEEN[callback] = (given, left)
    return given


def _settings_of(callback: Callback) -> dict[str, Any]:
    kind = type(callback)
    held = attributes(callback)
    watcher = _is_watcher(kind)
    of_lightning = _kept_by_lightning(kind)
    parameters = [each for each in _parameters(kind) if not (watcher and each.name in of_lightning)]
    names = {each.name for each in parameters}
    found = {name: held.get(name, held.get(f"_{name}")) for name in names if held.keys() & {name, f"_{name}"}}
    complete = {each.name for each in parameters if each.kind not in _MORE} <= found.keys()
    if not complete and not watcher:
        return held
    whole = not complete or _is_open(kind)
    own = {name: value for name, value in held.items() if name not in of_lightning}
    return {**{name: value for name, value in own.items() if whole or not name.startswith("_")}, **found}


def _kept_by_lightning(kind: type) -> set[str]:
    """The attributes that Lightning's classes among those of a callback set themselves."""
    functions = (each for base in _of_lightning(kind) for each in vars(base).values() if inspect.isfunction(each))
    return {str(step.argval) for each in functions for step in get_instructions(each) if step.opname == "STORE_ATTR"}


def _is_open(kind: type) -> bool:
    """Whether a constructor that is not Lightning's takes more than named arguments."""
    own = [each for each in kind.__mro__ if each not in _of_lightning(kind) and "__init__" in vars(each)]
    kinds = {each.kind for base in own if base is not object for each in _signature(base)}
    return bool(kinds & _MORE)


_MORE = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _signature(kind: type) -> list[inspect.Parameter]:
    return list(inspect.signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]


def _parameters(kind: type) -> Iterator[inspect.Parameter]:
    """A class's arguments; those of its base classes, too, if it passes them on by ``**kwargs``."""
    for each in kind.__mro__:
        if "__init__" in vars(each) and each is not object:
            parameters = _signature(each)
            yield from parameters
            if not {parameter.kind for parameter in parameters} & _MORE:
                return


def _groups(optimizer: torch.optim.Optimizer) -> list[Any]:
    """In which options an optimizer's groups differ from its defaults."""
    given = optimizer.defaults
    groups = [
        {name: value for name, value in group.items() if name not in _SCHEDULED and given.get(name, group) != value}
        for group in optimizer.param_groups
    ]
    return groups if any(groups) else []


def _arguments(scheduler: Any) -> dict[str, Any]:
    """The arguments of a schedule that are not its defaults."""
    try:
        parameters = inspect.signature(type(scheduler).__init__).parameters
    except ValueError:
        return {}
    held = {name: _held(scheduler, name) for name in parameters.keys() - _OF_THE_COURSE}
    return {
        name: value for name, value in held.items() if value is not None and not _equal(value, parameters[name].default)
    }


def _held(scheduler: Any, name: str) -> Any:
    """An argument of a schedule, under the name that torch keeps it by; of schedules within it, their arguments."""
    value = next((vars(scheduler)[each] for each in (name, f"_{name}", f"{name}s") if each in vars(scheduler)), None)
    if name == "schedulers" and isinstance(value, list | tuple):
        return [[_name(each), _arguments(each)] for each in value]
    return value


def _unusual(trainer: Trainer) -> dict[str, Any]:
    """Settings of the trainer that change a visit and are seldom given."""
    found = {
        "limit_train_batches": (trainer.limit_train_batches, 1.0),
        "overfit_batches": (trainer.overfit_batches, 0.0),  # type: ignore[attr-defined]
        "sync_batchnorm": (synchronises_batch_norm(trainer), False),
    }
    return {name: value for name, (value, usual) in found.items() if repr(value) != repr(usual)}  # 1 is not 1.0


def _equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except (TypeError, ValueError, RuntimeError):  # of arrays
        return False


@cache
def _installed() -> dict[str, str]:
    return {name: version(name) for name in ("lit_dist", "lightning", "torch")} | {"python": platform.python_version()}


def versions() -> dict[str, str]:
    """The versions of lit_dist, Lightning, torch and Python; and the number of threads, which changes the last bits."""
    return {**_installed(), "threads": str(torch.get_num_threads())}


def _name(value: object) -> str:
    return type(value).__qualname__
