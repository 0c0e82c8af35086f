"""Whether a packed ledger has the visits that its run's settings and splits give."""

from pathlib import Path

from lit_dist.crate.records import PackedRecords
from lit_dist.crate.schedule import PlannedVisit, Schedule, counts_follow, is_ours, may_stop, schedule_of
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import AnyLine, iter_lines
from lit_dist.provenance.line import MERGED
from lit_dist.provenance.merge import Merge
from lit_dist.study.heuristics import OWN
from lit_dist.study.run import Run
from lit_dist.utils.errors import InputError

_TRAVELS = ("single_weight_transfer", "cyclical_weight_transfer", OWN)
_MADE = ("trained", "cut short")
_UNFINISHED = ("cut short", "diverged")


def check_length(path: Path, run: Run, data: PackedRecords, steps: int | None) -> bool:
    """See that a run is as long as its settings and splits give, and has been where they say.

    Args:
        path: Its ledger, if there is one.
        run: The run.
        data: Its records.
        steps: How many optimizer steps its result says that it has made.

    Returns:
        Whether images and steps follow from settings and splits, so that they were compared.

    Raises:
        InputError: If it is not.
    """
    if run.kind in _TRAVELS and not path.is_file():
        raise InputError(f"{path} is not there, and the run's settings make a model travel")
    if path.is_file():
        schedule = schedule_of(run, data) if is_ours(run.config["data"]["class_path"]) else None
        if schedule is not None:
            check_ledger(path, schedule, steps)
        return schedule is not None and schedule.counted
    if counts_follow(run) and steps != run.steps and not (may_stop(run) and 0 < (steps or 0) < run.steps):
        raise InputError(f"{path.parent} has a result of {steps} steps, and the run's plan gives {run.steps}")
    return counts_follow(run)


def check_ledger(path: Path, schedule: Schedule, steps: int | None) -> None:
    """Compare the visits and merges of a ledger with a run's schedule.

    A run that was killed before its first checkpoint and begun anew has left its first visits there, too.

    Args:
        path: The ledger, whose chain is whole.
        schedule: What the run has to do.
        steps: How many optimizer steps its result says that it has made.

    Raises:
        InputError: If one is not as planned.
    """
    lines = list(iter_lines(path))
    ends = {line.run: number for number, line in enumerate(lines, start=1) if isinstance(line, Entry)}
    last: Entry | None = None
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number} ({line.name})"
        if isinstance(line, Merge):
            _check_merge(place, line, last, schedule)
        elif isinstance(line, Entry):
            _check_visit(place, line, schedule)
            _check_outcome(place, line, schedule, last=ends[line.run] == number)
            if _lacks_merge(lines, number - 1, schedule):
                raise InputError(f"{place}: by the run's settings a merge comes before it")
            if schedule.counted:
                through = line.outcome in _MADE if schedule.whole else line.outcome == "trained"
                alone = schedule.whole or _alone(lines, number - 1)
                _check_counts(place, line, schedule.visits[line.visit], through and alone)
            last = line
    if last is None:
        raise InputError(f"{path} has no visit, and the run's settings give {len(schedule.visits)}")
    if schedule.whole and last.visit + 1 != len(schedule.visits):
        raise InputError(
            f"{path} ends with {last.name}, but the run's settings and splits give {len(schedule.visits)} visits"
        )
    if schedule.whole and _lacks_merge(lines, len(lines), schedule):
        raise InputError(f"{path} ends with {last.name}, but by the run's settings a merge comes after it")
    own = [line for line in lines if isinstance(line, Entry) and line.run == last.run]
    made = sum(line.steps for line in own)
    if len({line.visit for line in own}) == len(own) and all(line.outcome in _MADE for line in own) and steps != made:
        raise InputError(f"{path} has {made} steps in its visits, and the result of the run {steps}")


def _check_outcome(place: str, entry: Entry, schedule: Schedule, last: bool) -> None:
    """See that a visit has ended as it can have in a study, whose runs are simulated."""
    odd = {
        "absent": True,
        "skipped": not schedule.skips,
        "diverged": schedule.whole and last,
        "cut short": schedule.whole and not last,
    }
    if entry.origin:
        raise InputError(f"{place}: it goes on from {entry.origin}, and a study's runs begin by themselves")
    if odd.get(entry.outcome, False):
        raise InputError(f"{place}: it was {entry.outcome}, as it cannot have been by the run's settings")


def _alone(lines: list[AnyLine], place: int) -> bool:
    """Whether a visit has one line, so that it was not resumed, nor begun again."""
    own, beside = lines[place], [lines[each] for each in (place - 1, place + 1) if 0 <= each < len(lines)]
    return not any(isinstance(each, Entry) and each.visit == own.visit and each.run == own.run for each in beside)  # type: ignore[union-attr]


def _lacks_merge(lines: list[AnyLine], place: int, schedule: Schedule) -> bool:
    """Whether a visit after which weights are merged stands right before a place, where its run goes on or ends."""
    before = lines[place - 1] if place else None
    if not isinstance(before, Entry) or before.outcome in _UNFINISHED or not schedule.itinerary.merges:
        return False
    following = lines[place] if place < len(lines) else before
    return following.run == before.run and schedule.itinerary.merges_after(before.visit)


def _check_visit(place: str, entry: Entry, schedule: Schedule) -> None:
    if entry.visit >= len(schedule.visits):
        raise InputError(f"{place}: the run's settings and splits give {len(schedule.visits)} visits")
    planned = schedule.visits[entry.visit].visit
    if (entry.site, entry.cycle) != (planned.site, planned.cycle):
        raise InputError(
            f"{place} is of cycle {entry.cycle}, but by the run's settings and splits visit {entry.visit} is of cycle"
            f" {planned.cycle} and at {planned.site!r}"
        )
    merges = schedule.itinerary.merges and schedule.itinerary.from_merge(entry.visit)
    if entry.parent != (MERGED if merges else ""):
        raise InputError(f"{place}: by the run's settings it {'begins' if merges else 'does not begin'} with a merge")


def _check_merge(place: str, merge: Merge, last: Entry | None, schedule: Schedule) -> None:
    due = last is not None and schedule.itinerary.merges and schedule.itinerary.merges_after(last.visit)
    if not due or merge.weighting != schedule.weighting:
        raise InputError(f"{place}: the run's settings have no merge by {merge.weighting} there")


def _check_counts(place: str, entry: Entry, planned: PlannedVisit, through: bool) -> None:
    """See that a visit has the images and steps of its plan; of one that did not go through, no more."""
    passes, rest = divmod(entry.images, planned.images)
    fits = not rest and 1 <= passes <= planned.most and entry.steps == passes * planned.steps
    if not through:
        fits = entry.images <= planned.images * planned.most and entry.steps <= planned.steps * planned.most
    if not fits:
        times = f" in each of at most {planned.most} passes" if planned.most > 1 else ""
        raise InputError(
            f"{place} has {entry.images} images in {entry.steps} steps, but the run's settings and splits give"
            f" {planned.images} in {planned.steps}{times}"
        )
