"""What must hold before a transfer can steer a fit, and when the fit validates."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    Callback,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lit_dist.checkpoints.checkpoint_io import SafetensorsCheckpointIO
from lit_dist.checkpoints.state_tree import encode
from lit_dist.utils.child_processes import most_processes
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import check_early_stopping_after_validation, train_source
from lit_dist.utils.one_lightning import check_package
from lit_dist.visits.epoch_plan import EpochPlan, Stretch
from lit_dist.visits.itinerary import Itinerary
from lit_dist.visits.site_loader import SiteLoader


def check_callbacks(callbacks: Sequence[Callback], transfer: type[Callback], by_steps: bool) -> None:
    """Raise ``InputError`` if a transfer, by steps or not, cannot work with one of the callbacks."""
    check_one(callbacks, transfer)
    if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        raise InputError(
            "StochasticWeightAveraging puts other weights into the model between two visits, so no hand-off could"
            " be proved; use EMAWeightAveraging, which keeps its average apart"
        )
    _check_averages(callbacks, transfer)
    if by_steps and any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
        raise InputError("every_n_steps needs one accumulate_grad_batches for the whole run; use every_n_epochs")


def _check_averages(callbacks: Sequence[Callback], transfer: type[Callback]) -> None:
    kinds = [(number, callback) for number, callback in enumerate(callbacks) if isinstance(callback, transfer)]
    for number, callback in enumerate(callbacks):
        if not isinstance(callback, WeightAveraging):
            continue
        name, (place, own) = type(callback).__name__, kinds[0]
        if number < place:
            raise InputError(f"put {type(own).__name__} before {name} in the callbacks: it hashes the trained weights")
        if getattr(own, "on_divergence", None) == "skip":
            raise InputError(f"{name} would keep what diverged in its average; leave it or on_divergence='skip' out")
        if getattr(own, "hand_over", None) == "best":
            raise InputError(
                f"{type(own).__name__} would hand the best trained weights over, but {name} validates their average;"
                f" set hand_over='last', or leave {name} out"
            )


def check_fit(trainer: Trainer) -> None:
    """Raise ``InputError`` if a part of the fit comes from the package ``pytorch_lightning``."""
    parts = [trainer, trainer.lightning_module, *trainer.callbacks, *trainer.loggers]  # type: ignore[attr-defined]
    check_package([*parts, trainer.datamodule, train_source(trainer)])  # type: ignore[attr-defined]


def check_hyperparameters(trainer: Trainer) -> None:
    """Raise ``InputError`` for a hyperparameter that no checkpoint can hold, before the first checkpoint does."""
    if not isinstance(trainer.strategy.checkpoint_io, SafetensorsCheckpointIO):
        return
    for owner in (trainer.lightning_module, trainer.datamodule):  # type: ignore[attr-defined]
        if owner is not None:
            for name, value in owner.hparams.items():
                try:
                    encode({name: value})
                except InputError as error:
                    why = str(error).partition("; leave")[0]
                    raise InputError(
                        f"{type(owner).__name__} has a hyperparameter {name!r} that no checkpoint could hold: {why}."
                        f" Leave it out, by save_hyperparameters(ignore=[{name!r}])"
                    ) from None


def check_initialized(module: nn.Module) -> None:
    """Raise ``InputError`` if a layer gets its shape, and draws its weights, in the first batch that comes."""
    lazy = [
        name
        for name, part in module.named_modules()
        if any(map(is_lazy, (*part.parameters(recurse=False), *part.buffers(recurse=False))))
    ]
    if lazy:
        raise InputError(
            f"{', '.join(lazy[:5])}{' and more' if lazy[5:] else ''} of {type(module).__name__} would get weights only"
            " in the first batch, and no site could say with which ones the run begins: pass a batch of the right"
            " shape through the network in the module's __init__ or configure_model"
        )


def check_one(callbacks: Sequence[object], transfer: type[Callback]) -> None:
    """Raise ``InputError`` if two of the trainer's callbacks are transfers."""
    if sum(isinstance(callback, transfer) for callback in callbacks) > 1:
        raise InputError("two transfer callbacks cannot steer one model; keep one of them in the callbacks")


def check_trainer(trainer: Trainer) -> None:
    """Raise ``InputError`` for a number that Lightning takes, and then divides by, or passes over."""
    check_numbers({name: getattr(trainer, name, None) for name in (*_COUNTS, *_LENGTHS, "gradient_clip_val")})
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most_processes():
        raise InputError(f"trainer.devices={trainer.num_devices} asks for more processes than this machine can run")


_COUNTS = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")
_LENGTHS = ("max_epochs", "max_steps", "limit_train_batches")


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for a setting of the trainer that it would divide by, or that lets nothing be learned."""
    for name in _COUNTS:
        value = settings.get(name)
        if isinstance(value, int | float) and not value > 0:
            raise InputError(f"trainer.{name}={value} is not a positive number")
    for name in _LENGTHS:
        if settings.get(name) == 0:
            raise InputError(f"trainer.{name}=0 trains nothing: give a greater number, or leave it out")
    clip = settings.get("gradient_clip_val")
    if isinstance(clip, int | float) and not 0 <= clip < math.inf:
        raise InputError(f"trainer.gradient_clip_val={clip} is not a finite number from 0")


def check_optimizers(trainer: Trainer) -> None:
    """Raise ``InputError`` if an optimizer has a NaN, a negative or infinite rate, or a beta that is not in [0, 1)."""
    for optimizer in trainer.optimizers:
        _check_epsilon(optimizer)
        for name, value in ((name, value) for group in optimizer.param_groups for name, value in group.items()):
            kind = type(optimizer).__name__
            for number in _numbers(value) if name != "params" else ():
                if math.isnan(number):
                    raise InputError(f"{kind} has {name}={value}, which is not a number")
                if name in _RATES and not 0 <= number < math.inf:
                    raise InputError(f"{kind} has {name}={value}, which is not a finite number from 0")
                if name == "betas" and not 0 <= number < 1:
                    raise InputError(f"{kind} has {name}={value}, which are not all in [0, 1)")


_RATES = ("lr", "initial_lr", "max_lr", "weight_decay", "momentum", "eps", "alpha", "rho", "lr_decay")


def _check_epsilon(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        eps = group.get("eps")
        half = any(parameter.dtype == torch.float16 for parameter in group["params"])
        if half and isinstance(eps, float) and eps > 0 and not torch.tensor(eps, dtype=torch.float16):
            raise InputError(
                f"{type(optimizer).__name__} has eps={eps}, which is 0 in float16, so that it would divide by zero: set"
                " eps to 1e-4, or take precision bf16-true or 16-mixed"
            )


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, tuple | list):
        return [number for each in value for number in _numbers(each)]
    if isinstance(value, Tensor):
        return [float(value)] if value.numel() == 1 else []
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def check_interval(trainer: Trainer, plan: EpochPlan, loader: SiteLoader) -> None:
    """Raise ``InputError`` if the validation interval is longer than a visit's epoch; Lightning would in mid-fit."""
    interval, every = trainer.val_check_interval, trainer.check_val_every_n_epoch
    if plan.every_n_steps or not isinstance(interval, int) or every is None:
        return
    shortest = min((loader.batches(Stretch(site)), site) for site in plan.itinerary.sites)
    if interval > shortest[0]:
        raise InputError(
            f"val_check_interval={interval} batches, but site {shortest[1]!r} has {shortest[0]:.0f}; take a"
            " fraction such as 0.5, or set check_val_every_n_epoch=null to count batches over all sites"
        )


def set_validation(trainer: Trainer, plan: EpochPlan, after_cycles: bool) -> None:
    """Validate after whole cycles if that is asked for, and say so where it might be meant."""
    cycle = plan.epochs_a_cycle
    if after_cycles and trainer.check_val_every_n_epoch == 1 and cycle > 1:
        trainer.check_val_every_n_epoch = cycle
        check_early_stopping_after_validation(trainer)
        if (trainer.max_epochs or 0) > 0 and (trainer.max_epochs or 0) % cycle:
            rank_zero_warn(
                f"max_epochs={trainer.max_epochs} ends in the middle of a cycle of {cycle} epochs, so the last"
                f" visits are not validated; take a multiple of {cycle}"
            )
    elif trainer.enable_validation and (trainer.check_val_every_n_epoch or cycle) % cycle:
        rank_zero_info(
            f"Validation may run in the middle of a cycle of {cycle} epochs; to judge the model after whole cycles"
            f" only, set validation='cycle' or check_val_every_n_epoch={cycle}."
        )


def _check_sites(itinerary: Itinerary) -> None:
    length = itinerary.visits_a_cycle
    usual = length // len(itinerary.sites)
    for cycle in range(_CYCLES):
        visits = range(cycle * length, (cycle + 1) * length)
        [(site, times)] = Counter(map(itinerary.site, visits)).most_common(1)
        if times > usual and any(map(itinerary.from_merge, visits)):
            raise InputError(
                f"{type(itinerary).__name__} visits {site!r} {times} times in cycle {cycle}, which ends with a merge;"
                f" let a round visit each site {'once' if usual == 1 else f'{usual} times'}"
            )


_CYCLES = 3  # that are looked at before a fit


def check_rounds(trainer: Trainer, plan: EpochPlan) -> None:
    """Raise ``InputError`` for what would make a round of visits that begin alike depend on their order."""
    cycle = plan.epochs_a_cycle
    _check_sites(plan.itinerary)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging | BaseFinetuning | GradientAccumulationScheduler):
            raise InputError(
                f"{type(callback).__name__} counts the trainer's steps or epochs, which are those of all sites in turn,"
                " while the visits of a round all begin with the last merge; leave it out"
            )
    if not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
        raise InputError(f"no mean of weights is formed with {type(trainer.strategy).__name__}; use one device, or ddp")
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise InputError(
            "with precision=16-mixed the scale of the gradients would go from one visit of a round to the next; use"
            " bf16-mixed"
        )
    for config in trainer.lr_scheduler_configs:
        due = cycle if config.reduce_on_plateau and config.interval == "epoch" else 1
        if config.frequency != due:
            raise InputError(
                f"{type(config.scheduler).__name__} has frequency={config.frequency} by {config.interval}, which would"
                f" count over the visits of a round, all of which begin with the last merge; set it to {due}"
            )
    if trainer.fast_dev_run or not trainer.enable_validation:  # type: ignore[attr-defined]
        return
    every = trainer.check_val_every_n_epoch
    if every is None or every % cycle or trainer.val_check_interval != 1.0:
        raise InputError(
            f"the mean is there to be validated after whole rounds, of {cycle} epochs: leave val_check_interval at 1.0,"
            f" and check_val_every_n_epoch at 1, or set it to a multiple of {cycle}"
        )
