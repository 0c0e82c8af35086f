"""The visits that a run's settings and splits give, as far as they do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from lit_dist.callbacks import (
    CyclicalWeightTransfer,
    DaisyChaining,
    FederatedAveraging,
    SingleWeightTransfer,
    WeightTransfer,
)
from lit_dist.crate.records import PackedRecords
from lit_dist.datamodules.base import Loader
from lit_dist.study.run import Run
from lit_dist.utils.signatures import imported
from lit_dist.visits.epoch_plan import EpochPlan
from lit_dist.visits.itinerary import Itinerary, Visit
from lit_dist.visits.plateau_plan import PlateauPlan

_TRANSFERS = (CyclicalWeightTransfer, SingleWeightTransfer, FederatedAveraging, DaisyChaining)
_SHORTENED = {"limit_train_batches", "overfit_batches", "fast_dev_run"}
_STOPPING = {"EarlyStopping", "Timer"}
_WATCHING = {
    *("ModelCheckpoint", "LearningRateMonitor", "DeviceStatsMonitor", "ModelSummary", "RichModelSummary"),
    *("TQDMProgressBar", "RichProgressBar", "WeightAveraging", "EMAWeightAveraging"),
}
"""Callbacks of Lightning that change neither how long a run is nor what is drawn in it."""


def is_ours(class_path: str) -> bool:
    """Whether a class is lit_dist's, so that what it does is known here."""
    return class_path.startswith("lit_dist.")


def transfer_of(callbacks: Sequence[Mapping[str, Any]], seed: int | None = None) -> WeightTransfer | None:
    """The transfer among callbacks, made anew; None where there is none of a class of lit_dist's.

    Nothing is imported for it, and no other class is called.
    """
    for each in callbacks:
        if (kind := imported(each["class_path"])) in _TRANSFERS:
            made: WeightTransfer = kind(**each["init_args"])
            made.seed = seed if made.seed is None else made.seed
            return made
    return None


@dataclass(frozen=True, slots=True)
class PlannedVisit:
    """A visit as a run's settings and splits give it.

    Attributes:
        visit: Its number, cycle and site.
        images: How many images it draws, or one pass of it does.
        steps: The optimizer steps of these.
        most: How many passes it may have, where only a plateau decides.
    """

    visit: Visit
    images: int
    steps: int
    most: int = 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """What of a run with a transfer follows from its settings and splits.

    Attributes:
        itinerary: Who is visited when, and where weights are merged.
        weighting: What a visit counts in a merge.
        visits: The visits.
        counted: Whether their images and steps are known.
        whole: Whether the run has to make all of these visits.
        skips: Whether visits that diverge are left out.
    """

    itinerary: Itinerary
    weighting: str
    visits: list[PlannedVisit]
    counted: bool
    whole: bool
    skips: bool


def counts_follow(run: Run) -> bool:
    """Whether nothing of a run but lit_dist's own parts decides how many images and steps it has."""
    paths = [run.config[part]["class_path"] for part in ("model", "data")]
    names = [_name(each) for each in run.config["trainer"]["callbacks"]]
    return (
        all(map(is_ours, paths))
        and not _SHORTENED & run.config["trainer"].keys()
        and all(name == "" or name in _WATCHING | _STOPPING for name in names)
    )


def may_stop(run: Run) -> bool:
    """Whether one of a run's callbacks may end it early."""
    return any(_name(each) in _STOPPING for each in run.config["trainer"]["callbacks"])


def _name(callback: Mapping[str, Any]) -> str:
    """The name of a callback of Lightning's; empty for one of lit_dist's, and whole for others."""
    path: str = callback["class_path"]
    return "" if path.startswith("lit_dist.callbacks.") else path.removeprefix("lightning.pytorch.callbacks.")


def schedule_of(run: Run, data: PackedRecords) -> Schedule | None:
    """The visits of a run; None where its transfer is not lit_dist's own."""
    transfer = transfer_of(run.config["trainer"]["callbacks"], run.seed)
    if transfer is None:
        return None
    loaders = data.training_loaders()
    plan = transfer.make_plan(transfer.itinerary(list(loaders)))
    trainer, counted = run.config["trainer"], counts_follow(run)
    steps = trainer["max_steps"] if counted and trainer["max_steps"] >= 0 else inf
    accumulated = int(trainer.get("accumulate_grad_batches") or 1)
    whole = counted and not may_stop(run)
    skips = transfer.on_divergence == "skip"
    if isinstance(plan, PlateauPlan):
        most = min(getattr(transfer, "max_epochs_per_site", None) or inf, trainer["max_epochs"])
        visits = list(_until_plateaus(plan.itinerary, loaders, accumulated, int(most)))
        ends = steps == inf and most * len(visits) <= trainer["max_epochs"]
        return Schedule(plan.itinerary, transfer.weighting, visits, counted, whole and ends, skips)
    visits = list(_planned(plan, loaders, accumulated, trainer["max_epochs"], steps))
    return Schedule(plan.itinerary, transfer.weighting, visits, counted, whole, skips)


def _until_plateaus(
    itinerary: Itinerary, loaders: Mapping[str, Loader], accumulated: int, most: int
) -> Iterator[PlannedVisit]:
    """One visit at each site, of as many passes as a plateau allows."""
    for number in range(len(itinerary.sites)):
        loader = loaders[itinerary.site(number)]
        batches = len(loader)
        yield PlannedVisit(itinerary.visit(number), _images(loader, batches), -(-batches // accumulated), most)


def _planned(
    plan: EpochPlan, loaders: Mapping[str, Loader], accumulated: int, epochs: int, left: float
) -> Iterator[PlannedVisit]:
    """The visits of so many epochs, cut short by the greatest number of steps."""
    number = images = steps = 0
    for stretch in (each for epoch in range(epochs) for each in plan.epoch(epoch, accumulated)):
        if stretch.visit != number:
            yield PlannedVisit(plan.itinerary.visit(number), images, steps)
            number, images, steps = stretch.visit, 0, 0
        loader = loaders[stretch.site]
        batches = stretch.batches or len(loader)
        made = min(-(-batches // accumulated), left)
        images += _images(loader, min(batches, int(made) * accumulated))
        steps, left = steps + int(made), left - made
        if not left:
            break
    if steps:
        yield PlannedVisit(plan.itinerary.visit(number), images, steps)


def _images(loader: Loader, batches: int) -> int:
    """How many images so many batches have, drawn in several passes where the site has fewer."""
    size = loader.batch_size or 1
    a_pass = min(len(loader) * size, len(loader.sampler))  # type: ignore[arg-type]
    passes, rest = divmod(batches, len(loader))
    return passes * a_pass + min(rest * size, a_pass)
