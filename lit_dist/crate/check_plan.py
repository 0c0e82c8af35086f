"""Whether the runs of a packed study are those that its settings give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from lit_dist.crate.records import PackedRecords
from lit_dist.crate.schedule import is_ours, transfer_of
from lit_dist.runs.changed_settings import changed_settings
from lit_dist.study.heuristics import OWN, Heuristic
from lit_dist.study.plan import plan_of
from lit_dist.study.run import PLAN, Run, run_path
from lit_dist.study.settings import SETTINGS, StudySettings
from lit_dist.utils.errors import InputError
from lit_dist.utils.signatures import imported

_OF_RUN = {"data": ("centralized", "only_site", "external"), "trainer": ("callbacks", "max_epochs", "max_steps")}
"""What a study's runs do not share of their settings."""


def check_plan(
    crate: Path, runs: Sequence[Run], settings: StudySettings, make_data: Callable[..., PackedRecords] | None
) -> Iterator[str]:
    """Plan a study again, and compare its runs with those that are packed.

    Args:
        crate: The study's folder.
        runs: Its runs, each with the settings that its name has the hash of.
        settings: The study's.
        make_data: Gives the records for the settings of the data, and changes of them; None if some are not known.

    Yields:
        What was found, line by line; it names each run that is missing.

    Raises:
        InputError: If one is not planned, or planned otherwise.
    """
    ours = make_data is not None and is_ours(settings.data["class_path"])
    known = [each for each in settings.heuristics if ours and _is_ours(each)]
    try:
        planned = plan_of(replace(settings, heuristics=known), make_data, _transfers) if make_data and known else []
    except InputError as error:
        raise InputError(f"{crate / SETTINGS} gives no plan: {error}") from None
    by_name = {run.name: run for run in planned}
    others = {name for each in settings.heuristics if each not in known for name in _names(each)}
    for run in runs:
        path = run_path(crate, run.name) / PLAN
        if run.name in by_name:
            _check_same(path, run, by_name[run.name])
        elif run.heuristic not in others or not _is_of(settings, run):
            raise InputError(f"{path} is of no run that {crate / SETTINGS} plans{_difference(run, planned)}")
    found = {(run.heuristic, run.seed) for run in runs}
    missing = [name for name in by_name if name not in {run.name for run in runs}]
    missing += [
        f"{each.name}, seed {seed}"
        for each, seed in product(settings.heuristics, settings.study.seeds)
        if each not in known and (each.name, seed) not in found
    ]
    which = f"; missing here: {', '.join(missing)}." if missing else ", and all of them are here."
    yield f"{SETTINGS} plans {len(runs) + len(missing)} runs{which}"
    if others:
        yield f"Only names, seeds and what all runs share are compared of: {', '.join(sorted(others))}."


def _is_ours(heuristic: Heuristic) -> bool:
    """Whether a heuristic can be planned without importing anything."""
    kinds = [imported(each["class_path"]) for each in heuristic.callbacks]
    known = all(isinstance(kind, type) and issubclass(kind, Callback) for kind in kinds)
    return known and (heuristic.kind != OWN or transfer_of(heuristic.callbacks) is not None)


def _transfers(callbacks: Sequence[Mapping[str, Any]], where: str) -> list[Callback]:
    return [each for each in [transfer_of(callbacks)] if each is not None]


def _names(heuristic: Heuristic) -> list[str]:
    """What the runs of a heuristic may be called, with the members of an ensemble."""
    members = ["single", f"{heuristic.name}, single institution"] if heuristic.kind == "ensemble" else []
    return [heuristic.name, *members]


def _is_of(settings: StudySettings, run: Run) -> bool:
    """Whether a run has a study's seed and the settings that all of its runs share."""
    shared = {"data": settings.data["init_args"], "trainer": settings.trainer}
    own = {"data": run.config["data"]["init_args"], "trainer": run.config["trainer"]}
    same = all(_without(own[part], names) == _without(shared[part], names) for part, names in _OF_RUN.items())
    model = settings.study.lengths or run.members or run.config["model"] == settings.model
    return bool(same and model and run.seed in settings.study.seeds and run.config["seed_everything"] == run.seed)


def _without(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _difference(run: Run, planned: Sequence[Run]) -> str:
    """In what a run differs from the one that is planned in its place, for a message."""
    same = [each for each in planned if _place(each) == _place(run)]
    for name, wanted, found in changed_settings(same[0].config, run.config) if len(same) == 1 else ():
        return f": {name} is {found!r}, and should be {wanted!r}"
    return ""


def _place(run: Run) -> tuple[Any, ...]:
    """What tells a run from the others of its study."""
    return (run.heuristic, run.seed, run.site, run.held_out, *run.name.split("-")[1:-1])


def _check_same(path: Path, run: Run, planned: Run) -> None:
    """See that a plan says of a run what its settings, which have the same hash, are planned for."""
    for name in (each.name for each in fields(Run) if each.name not in ("config", "wandb")):
        if getattr(run, name) != getattr(planned, name):
            raise InputError(
                f"{path}: {name} is {getattr(run, name)!r}, and the study's settings give {getattr(planned, name)!r}"
            )
