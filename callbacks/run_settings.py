"""The settings that decide what a visit does, and the versions of the programs that do it."""

import hashlib
import inspect
import json
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from lit_dist.lightning_internals import synchronises_batch_norm
from lit_dist.plain_values import attributes, plain_json

RULE = 2
"""The newest way of hashing settings. By the first, callbacks, values of tensors and arguments of schedules were left
out; a run that has begun with it goes on with it. Where there is nothing of the kind, both give the same hash."""

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
        text = plain_json({**settings, **({"rule": rule, "more": found} if found else {})})
    return hashlib.sha256(text.encode()).hexdigest()


def callback_settings(trainer: Trainer) -> list[Any]:
    """What the callbacks are that take part in training: the class and the arguments of each.

    A callback takes part unless it is known to only watch, or says so by ``takes_part = False``. To be called before
    training, which changes what callbacks hold.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [
        [_name(each), _given(each)]
        for each in callbacks
        if getattr(each, "takes_part", True) and not _watches(type(each))
    ]


def _watches(kind: type) -> bool:
    of_lightning = (each for each in kind.__mro__ if each.__module__.startswith(("lightning.", "pytorch_lightning.")))
    return any(each.__name__ in WATCHERS for each in of_lightning)


_FIRST: WeakKeyDictionary[Callback, str] = WeakKeyDictionary()  # what callbacks held when they were first looked at


def _given(callback: Callback) -> str:
    """A callback's arguments, where it keeps them under their names; else all that it held before it was first used."""
    names = set(_parameters(type(callback)))
    held = attributes(callback)
    found = {name: held.get(name, held.get(f"_{name}")) for name in names if held.keys() & {name, f"_{name}"}}
    if found.keys() == names:
        return plain_json(found)
    try:
        return _FIRST.setdefault(callback, plain_json(held))
    except TypeError:  # it cannot be a key
        return plain_json(held)


def _parameters(kind: type) -> Iterator[str]:
    """The names of a class's arguments; of its base classes', too, if it passes them on by ``**kwargs``."""
    for each in kind.__mro__:
        if "__init__" in vars(each) and each is not object:
            parameters = list(inspect.signature(each.__init__).parameters.values())[1:]  # type: ignore[misc]
            kinds = {parameter.kind for parameter in parameters}
            yield from (each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))
            if not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
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
