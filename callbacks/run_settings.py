"""The settings that decide what a visit does, and the versions of the programs that do it."""

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from lightning.pytorch import Trainer


def settings_sha256(trainer: Trainer, transfer: Mapping[str, Any]) -> str:
    """Hash the settings of the module, the optimizers, the schedules, the transfer and the trainer.

    The length of the run, places of files, and the data are left out: sites that train one model together agree in the
    rest. An object among the settings counts by the name of its class; of optimizers the defaults count, and of
    schedules the class, interval and frequency, since the rest changes in the course of a run.

    Args:
        trainer: The trainer of a fit that has begun.
        transfer: The settings of the transfer callback.

    Returns:
        The SHA-256 of the settings as JSON, as 64 hexadecimal digits.
    """
    module = trainer.lightning_module
    settings = {
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
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=_name).encode()).hexdigest()


@cache
def _installed() -> dict[str, str]:
    return {name: version(name) for name in ("lit_dist", "lightning", "torch")} | {"python": platform.python_version()}


def versions() -> dict[str, str]:
    """The versions of lit_dist, Lightning, torch and Python; and the number of threads, which changes the last bits."""
    return {**_installed(), "threads": str(torch.get_num_threads())}


def _name(value: object) -> str:
    return type(value).__qualname__
