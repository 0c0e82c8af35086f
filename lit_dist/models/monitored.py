"""Which metrics a fit is steered by, and whether they mean anything with the labels of its validation images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.models.metrics import MEAN, better, logged_measures
from lit_dist.models.site_reports import SiteReported
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

Labels = Mapping[str, Sequence[Any]]


def monitors(trainer: Trainer, sites: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Who looks at which metric.

    Args:
        trainer: Its callbacks and, once they are made, its learning-rate schedules.
        sites: The sites whose names a metric's ``{site}`` stands for.

    Returns:
        The class that looks at a metric, and the metric's name.
    """
    return [
        (type(who).__name__, name.replace("{site}", site))
        for who, name in _watchers(trainer)
        for site in (sites if "{site}" in name and sites else [""])
    ]


def _watchers(trainer: Trainer) -> list[tuple[Any, str]]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    found = [(each, getattr(each, "monitor", None)) for each in callbacks]
    configs = trainer.lr_scheduler_configs if trainer.strategy.lr_scheduler_configs else []
    found += [(each.scheduler, each.monitor) for each in configs if each.reduce_on_plateau]
    return [(who, name) for who, name in found if isinstance(name, str)]


def check_mode(task: Task, who: str, monitor: str, mode: object) -> None:
    """Refuse to take the worst value of a known metric for the best.

    Args:
        task: What the metric is of.
        who: What looks at the metric.
        monitor: The metric's name, such as ``val_loss`` or ``val_auroc/SITE``.
        mode: ``"min"`` or ``"max"``; anything else is not looked at.

    Raises:
        InputError: If the metric improves the other way.
    """
    right = better(task, monitor.partition("/")[0].removeprefix("val_"))
    if monitor.startswith("val_") and right and mode in ("min", "max") and mode != right:
        raise InputError(
            f"{who} monitors {monitor!r} with mode={mode}, which takes the worst value for the best: set mode={right}"
        )


def check_monitors(trainer: Trainer, labels: Labels, task: Task) -> None:
    """Refuse to be steered by a number that means nothing, and warn of one that means little.

    What it means follows from the labels of each site's validation images.

    Raises:
        InputError: If a metric that something monitors is of no image, or is not defined for such images, as an AUROC
            is not where they are of one class; or if a mode takes the worst value for the best.
    """
    for watcher, name in _watchers(trainer):
        check_mode(task, type(watcher).__name__, name, getattr(watcher, "mode", None))
    _check_interval(trainer)
    none = trainer.limit_val_batches == 0
    for who, name in monitors(trainer, list(labels)):
        metric, _, site = name.partition("/")
        if not metric.startswith("val_"):
            continue
        if site and site not in labels:
            _check_site(trainer, f"{who} monitors {name!r}", labels)
            continue
        of = labels[site] if site else [label for each in labels.values() for label in each]
        where = f"site {site!r}" if site else f"site {next(iter(labels))!r}" if len(labels) == 1 else "all sites"
        if not len(of) or none:
            what = "limit_val_batches=0 leaves none" if none else "there are none: raise --data.val_fraction"
            raise InputError(f"{who} monitors {name!r}, which takes validation records of {where}, but {what}")
        _check_meaning(task, f"{who} monitors {name!r}", metric.removeprefix("val_"), of, where)
    _check_evaluations(trainer, labels, task)


def _check_site(trainer: Trainer, who: str, labels: Labels) -> None:
    """Refuse a metric of a site that is not validated; modules that report for themselves may call others so."""
    if isinstance(trainer.lightning_module, SiteReported):
        raise InputError(_no_site(who, labels))


def _no_site(who: str, sites: Iterable[str]) -> str:
    return f"{who}, and there is no such site in the validation; it has {', '.join(sites)}"


def _check_meaning(task: Task, who: str, metric: str, labels: Sequence[Any], where: str) -> None:
    if metric not in logged_measures(task):
        return
    undefined = task.undefined(metric, labels) if metric in task.measures else None
    if undefined:
        raise InputError(
            f"{who}, which is not defined: the {len(labels)} validation records of {where} are {undefined}. Monitor"
            " val_loss, or get other records into the validation with other splits (--data.val_fraction,"
            " --data.split_seed, --data.splits)"
        )
    if poor := task.poor(labels):
        rank_zero_warn(
            f"{who}, but the {len(labels)} validation records of {where} are {poor}, so a model that always guesses it"
            " is taken for the best one"
        )
    elif len(labels) < 2:
        rank_zero_warn(f"{who}, but {where} has one validation record")


def _check_interval(trainer: Trainer) -> None:
    """Warn where no validation takes place, so that nothing is found best and nothing stops early."""
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs or 0
    who = sorted({f"{who} monitors {name!r}" for who, name in monitors(trainer) if name.startswith("val_")})
    if who and 0 < epochs < (every or 0):
        rank_zero_warn(
            f"{', '.join(who)}, but nothing is validated: check_val_every_n_epoch={every} is more than"
            f" max_epochs={epochs}"
        )


def _check_evaluations(trainer: Trainer, labels: Labels, task: Task) -> None:
    """Warn of sites where the metric of a ``SiteEvaluation`` is not defined."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for each in callbacks:
        metric, split = getattr(each, "metric", None), getattr(each, "split", None)
        if metric in task.measures and split == "val" and getattr(each, "every", "off") != "off":
            reasons = {site: task.undefined(metric, of) or (not of and "none") for site, of in labels.items()}
            undefined = [site for site, reason in reasons.items() if reason]
            if undefined and any(task.undefined(metric, of) for of in labels.values() if of):
                rank_zero_warn(
                    f"{type(each).__name__} evaluates the {task.measures[metric].title}, which is not defined where"
                    f" {task.measures[metric].undefined}: {', '.join(undefined)}; metric={task.each or 'loss'} is"
                    " defined everywhere"
                )


def refuse_unpooled(trainer: Trainer, task: Task | None, sites: Sequence[str]) -> None:
    """Refuse metrics that a federation does not have: of all sites' records where none has all, and of no site.

    Raises:
        InputError: If something monitors one.
    """
    unpooled = {name for name, measure in task.measures.items() if measure.pooled is None} if task else set()
    for who, name in monitors(trainer, sites):
        metric, _, site = name.partition("/")
        if task and site and site not in sites and metric.removeprefix("val_") in logged_measures(task):
            raise InputError(_no_site(f"{who} monitors {name!r}", sites))
        if name.startswith("val_") and name.removeprefix("val_") in unpooled:
            mean = f"val_{MEAN}{name.removeprefix('val_')}"
            raise InputError(
                f"{who} monitors {name!r}, which does not follow from the values of each site, so a federation does not"
                f" have it; monitor {mean}, the mean of the sites' values, or one site's, such as {name}/SITE"
            )
