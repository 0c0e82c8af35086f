"""What must hold before a transfer can steer a fit, and when the fit validates."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lit_dist.epoch_plan import EpochPlan, Stretch
from lit_dist.errors import InputError
from lit_dist.lightning_internals import check_early_stopping_after_validation
from lit_dist.site_loader import SiteLoader


def check_callbacks(callbacks: Sequence[Callback], transfer: type[Callback], by_steps: bool) -> None:
    """Refuse callbacks that a transfer cannot work with.

    Args:
        callbacks: The trainer's callbacks.
        transfer: The class that only one of them may belong to.
        by_steps: Whether visits are counted in optimizer steps.

    Raises:
        InputError: If there is one.
    """
    if sum(isinstance(callback, transfer) for callback in callbacks) > 1:
        raise InputError("two transfer callbacks cannot steer one model; keep one of them in the callbacks")
    if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        raise InputError(
            "StochasticWeightAveraging puts other weights into the model between two visits, so no hand-off could"
            " be proved; use EMAWeightAveraging, which keeps its average apart"
        )
    if by_steps and any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
        raise InputError("every_n_steps needs one accumulate_grad_batches for the whole run; use every_n_epochs")


def check_interval(trainer: Trainer, plan: EpochPlan, loader: SiteLoader) -> None:
    """Refuse a validation interval that is longer than a visit's epoch, before Lightning does so in the middle.

    Raises:
        InputError: If it is.
    """
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
