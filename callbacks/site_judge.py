"""Judges a module on a site's records by its own validation, outside Lightning's loops."""

import inspect
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_dist.callbacks.site_log import SiteFound, SiteLog
from lit_dist.utils.errors import InputError
from lit_dist.utils.outside_loops import on_device, state_kept
from lit_dist.visits.joint_loader import loaders_in
from lit_dist.visits.site_sample import sample

_STAGES = ("val", "valid", "validation", "test", "eval")


@contextmanager
def evaluating(trainer: Trainer, module: LightningModule, split: str) -> Iterator[None]:
    """Evaluate in the middle of training, and leave no trace: in generators, metrics, buffers, modes and lists."""
    device = module.device
    shown, before = trainer.callback_metrics, dict(trainer.callback_metrics)
    # For hooks that ask the trainer whether it trains, to augment on the device for example.
    if split == "val":
        trainer.validating = True
    else:
        trainer.testing = True
    devices = [device] if device.type == "cuda" else []
    try:
        with state_kept(module), torch.no_grad(), torch.random.fork_rng(devices):
            module.eval()
            yield
    finally:
        trainer.training = True
        shown.clear()
        shown.update(before)


def judge(
    trainer: Trainer, module: LightningModule, site: str, batches: Iterable[Any], split: str, tolerant: bool = False
) -> SiteFound:
    """What a module logs or returns in its own validation of a site's batches; to be called while ``evaluating``.

    Its hooks are called as Lightning calls them. A module without a ``test_step`` is tested by its ``validation_step``.

    Args:
        trainer: The trainer.
        module: The module.
        site: The site's name.
        batches: As the site's loader gives them.
        split: ``"val"`` or ``"test"``.
        tolerant: Whether what the module does at the end may fail, as it may with too few batches.

    Raises:
        InputError: If the module cannot be judged so.
    """
    stage = "test" if split == "test" and is_overridden("test_step", module) else "validation"
    if not is_overridden(f"{stage}_step", module):
        raise InputError(f"{type(module).__name__} has no {stage}_step to judge site {site!r} by")
    log = SiteLog(module, split, sites=[site])
    log.begin(site)
    try:
        with log.in_place():
            for hook in ("start", "epoch_start"):
                getattr(module, f"on_{stage}_{hook}")()
            for number, batch in enumerate(batches):
                _step(trainer, module, stage, on_device(trainer, batch), number, log)
            try:
                trainer.callback_metrics.update({name: torch.tensor(v) for name, v in log.values().items()})
                for hook in ("epoch_end", "end"):
                    getattr(module, f"on_{stage}_{hook}")()
            except Exception:
                if not tolerant:
                    raise
            return log.end()
    except InputError:
        raise
    except Exception as error:  # whatever a module of the user's raises
        raise InputError(
            f"{type(module).__name__} cannot be judged on site {site!r} by its {stage}_step"
            f" ({type(error).__name__}: {error})"
        ) from error


def _step(trainer: Trainer, module: LightningModule, stage: str, batch: Any, number: int, log: SiteLog) -> None:
    plugin = trainer.precision_plugin
    log.count(batch)
    _call(getattr(module, f"on_{stage}_batch_start"), batch, number, 0)
    with plugin.val_step_context() if stage == "validation" else plugin.test_step_context():
        output = _call(getattr(module, f"{stage}_step"), batch, number, 0)
    log.take_output(output)
    _call(getattr(module, f"on_{stage}_batch_end"), output, batch, number, 0)


def _call(hook: Any, *arguments: Any) -> Any:
    """Call a hook with as many arguments as it takes."""
    given = inspect.signature(hook).parameters.values()
    if any(each.kind is each.VAR_POSITIONAL for each in given):
        return hook(*arguments)
    return hook(*arguments[: sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in given)])


def all_batches(loader: Any) -> Iterator[Any]:
    """The batches of a site's loader, or of its several loaders one after the other."""
    for each in loaders_in(loader):
        yield from each


def look(trainer: Trainer, module: LightningModule, site: str, loader: Any, split: str) -> SiteFound:
    """What a module logs of one batch of a site, which is not drawn from its loader.

    Raises:
        InputError: If the module cannot be judged by it.
    """
    first = loaders_in(loader)[0]
    size = getattr(first, "batch_size", None) or 2
    with evaluating(trainer, module, split):
        return judge(trainer, module, site, sample(first, size, seed=0), split, tolerant=True)


def find_logged(metric: str, names: Collection[str]) -> str | None:
    """The name under which a module logs a metric that may be named in short; None if none is, or several are.

    Example:
        >>> find_logged("loss", ["val/loss", "val/dice"]), find_logged("dice", ["dice_val", "val_loss"])
        ('val/loss', 'dice_val')
    """
    exact = [metric, *(f"{stage}{between}{metric}" for stage in _STAGES for between in "_/")]
    if first := next((name for name in exact if name in names), None):
        return first
    parts = _parts(metric)
    holding = [name for name in names if parts <= _parts(name)]
    return holding[0] if len(holding) == 1 else None


def _parts(name: str) -> set[str]:
    return set(re.split(r"[/_.\-]", name))


_FALL = {
    "loss",
    "error",
    "err",
    "mae",
    "mse",
    "rmse",
    "mape",
    "perplexity",
    "ppl",
    "distance",
    "hausdorff",
    "hd95",
    "nll",
    "wer",
}
_RISE = {"acc", "accuracy", "auroc", "auc", "auprc", "dice", "iou", "jaccard", "f1", "map", "ap", "precision", "recall"}
_RISE |= {"sensitivity", "specificity", "kappa", "r2", "pearson", "spearman", "score", "psnr", "ssim", "froc", "mcc"}


def better_by_name(name: str) -> str | None:
    """Whether a metric of a usual name improves by falling (``"min"``) or rising (``"max"``); None if it has none.

    Example:
        >>> better_by_name("val/box_loss"), better_by_name("val_dice"), better_by_name("val_speed")
        ('min', 'max', None)
    """
    parts = _parts(name.lower())
    if parts & _FALL:
        return "min"
    return "max" if parts & _RISE else None
