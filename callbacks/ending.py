"""Why a fit has ended before it was to."""

from collections import Counter
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from lit_dist.callbacks.heuristics.single_weight_transfer import SingleWeightTransfer
from lit_dist.checkpoints.run_folder import LEDGER, run_folder
from lit_dist.provenance.ledger import iter_entries


def ending(trainer: Trainer) -> list[str]:
    """Lines that say why a fit has ended early, and which of its visits trained nothing; none where all is done."""
    if trainer.fast_dev_run or trainer.barebones:  # type: ignore[attr-defined]
        return []
    reason = _reason(trainer)
    lines = [f"The fit ended {progress(trainer)}: {reason}"] if reason else []
    return [*lines, *_skipped(run_folder(trainer) / LEDGER)]


def progress(trainer: Trainer) -> str:
    """How far a fit has got."""
    asked = trainer.max_epochs
    of = f" of {asked}" if asked is not None and asked >= 0 else ""
    return f"after {trainer.current_epoch}{of} epochs and {trainer.global_step} steps"


def out_of_time(trainer: Trainer) -> bool:
    """Whether the time of one of a trainer's timers is up."""
    timers = [each for each in trainer.callbacks if isinstance(each, Timer)]  # type: ignore[attr-defined]
    return any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers)


def _reason(trainer: Trainer) -> str | None:
    if 0 <= trainer.max_steps <= trainer.global_step:
        return None
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return None
    for stopping in trainer.early_stopping_callbacks:
        message = getattr(stopping, "stopping_reason_message", None)
        if message:
            return f"{type(stopping).__name__}: {message.removesuffix(' Signaling Trainer to stop.')}"
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if out_of_time(trainer):
        return "its time is up (max_time)"
    if any(isinstance(each, SingleWeightTransfer) and each.finished for each in callbacks):
        return "single weight transfer has been at every site"
    return "a callback or the module has set should_stop" if trainer.should_stop else None


def _skipped(ledger: Path) -> list[str]:
    if not ledger.exists():
        return []
    sites = Counter(entry.site for entry in iter_entries(ledger) if entry.outcome == "skipped")
    told = ", ".join(f"{site} ({count})" for site, count in sites.items())
    return [f"{sites.total()} visits diverged and were left out, by site: {told}"] if sites else []
