"""Whether a study that others have packed holds what its tables say."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.crate.check_ledger import check_length
from lit_dist.crate.check_plan import check_plan
from lit_dist.crate.check_tables import check_described, sites_in_order
from lit_dist.crate.compared_tables import compare, near
from lit_dist.crate.files import METADATA, check_files, opened, read_entities
from lit_dist.crate.records import PackedRecords, StudyRecords, read_records
from lit_dist.crate.schedule import is_ours
from lit_dist.provenance.ledger import iter_lines
from lit_dist.provenance.run_settings import versions
from lit_dist.provenance.verify import verify
from lit_dist.report.predicted_records import check_records, labelled
from lit_dist.report.tables import make_tables
from lit_dist.study.continued import DETAILS, FLOW, HELD_OUT, OVER_SITES, TABLE_1, TABLES, TASK
from lit_dist.study.execute import FIT, PREDICTIONS, VALIDATION, judged, read_predictions, read_result, travels
from lit_dist.study.run import Run, read_run
from lit_dist.study.run_names import has_settings
from lit_dist.study.settings import SETTINGS, StudySettings, read_study
from lit_dist.tasks.named import task_described
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import file_sha256
from lit_dist.utils.errors import InputError
from lit_dist.utils.text_table import read_text_table
from lit_dist.utils.yaml_text import read_yaml

_NOTED = "Visits that were"
"""What an audit says of visits that were left out, or made with other settings than those before."""
_DAMAGED = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def check_crate(path: Path) -> Iterator[str]:
    """Check a crate: its files, its plan, its ledgers, its splits, and its tables by its predictions.

    Nothing of it is run: no class or module that it names is imported.

    Yields:
        What was found to be in order, line by line.

    Raises:
        InputError: At the first thing that is not.
    """
    try:
        yield from _check(path)
    except InputError:
        raise
    except _DAMAGED as error:  # it may hold anything
        raise InputError(f"{path} is not a study as lit-dist crate packs it: {error}") from None


def _check(path: Path) -> Iterator[str]:
    with opened(path) as crate:
        entities = read_entities(crate)
        yield f"{path}: {check_files(crate, entities)} files are as they were packed."
        made, here = _version(entities), versions()["lit_dist"]
        if made != here:
            yield f"It was made by lit_dist {made}; this is {here}, which may compute tables otherwise."
        results = read_text_table(crate / "results.csv")
        runs = _runs(crate, results)
        yield f"The settings of the {len(runs)} runs are those that their names have the hash of."
        task = task_described(read_yaml(crate / TASK))
        settings = read_study(crate / SETTINGS)
        records = read_records(crate, runs, settings.data["init_args"].get("external") or [])
        make_data = _maker(crate, records, task)
        yield from check_plan(crate, runs, settings, None if records.unknown else make_data)
        yield from _check_records(crate, records, make_data(settings.data), task)
        yield from _check_ledgers(crate, runs, make_data)
        if task is None:
            yield "What is predicted is a task of the authors' own code, so that the tables are not computed again."
        else:
            yield from _check_tables(crate, runs, settings, make_data, task)
        yield (
            "Whether the runs were trained as their ledgers say, only training again can show; whoever made the crate"
            f" could have made all of it up. Its fingerprint: {file_sha256(crate / METADATA)}"
        )


def _runs(crate: Path, results: pd.DataFrame) -> list[Run]:
    """The runs of the table of results, each of which has a folder, and the settings that it was named for."""
    there = {path.name for path in crate.glob("runs/*")}
    named = [str(name) for name in results.get("run", [])]
    if not named or set(named) != there or len(set(named)) != len(named):
        odd = sorted(set(named) ^ there) or ["none"]
        raise InputError(f"{crate / 'results.csv'} and the folder runs do not have the same runs: {odd[0]!r}")
    runs = [read_run(crate / "runs" / name) for name in named]
    for name, run in zip(named, runs, strict=True):
        if not set(run.members) <= there:
            raise InputError(f"{crate / 'runs' / name} is an ensemble of runs that are not in the crate")
        if run.name != name or not has_settings(name, run.kind, run.heuristic, run.config, run.members):
            raise InputError(f"the settings in {crate / 'runs' / name} are not those that the run was named for")
    return runs


def _maker(crate: Path, records: StudyRecords, task: Task | None) -> Callable[..., PackedRecords]:
    """What gives the records of a study for the settings of its data, and changes of them."""
    table = records.table if task is None else labelled(records.table, task)
    sites = sites_in_order(crate, set(table["site"]))
    return lambda settings, **changes: PackedRecords(table, sites, task, {**settings["init_args"], **changes})


def _check_records(crate: Path, records: StudyRecords, data: PackedRecords, task: Task | None) -> Iterator[str]:
    """Compare Table 1 and the flow of records with the splits."""
    table = records.table
    patients = table["patient"].nunique()
    yield f"Splits: {len(table)} records of {patients} patients; all runs have the same, and none of them is in two."
    if records.unknown:
        sites = ", ".join(records.unknown)
        yield f"Only runs that hold out {sites} are here, so that {TABLE_1} and {FLOW} are not compared."
        return
    check_described(crate, data, labels=task is not None)
    yield f"They give {TABLE_1} and {FLOW}."


def _check_ledgers(crate: Path, runs: list[Run], make_data: Callable[..., PackedRecords]) -> Iterator[str]:
    visits, ledgers, unlike = 0, 0, list[str]()
    owners: dict[str, Run] = {}  # of fits' ids, and of the weights that a ledger ends with
    for run in runs:
        path = crate / "runs" / run.name / FIT / LEDGER
        found = read_result(crate, run.name)
        if run.members:
            again = {"visits": None, "transfers": len(run.members), "steps": 0}
        else:
            if path.is_file():
                yield from (f"{run.name}: {line}" for line in verify(path.parent).splitlines() if _NOTED in line)
            elif found.get("visits") is not None:
                raise InputError(f"{path.parent} has no ledger of the {found['visits']} visits that the run has made")
            again = travels(path)
        if {name: found.get(name) for name in again} != again:
            raise InputError(f"{path} has {again}, and the result of the run says otherwise")
        lines = list(iter_lines(path)) if path.is_file() else []
        for name in {line.run for line in lines}:
            if (other := owners.setdefault(name, run)) != run:
                raise InputError(f"{path} has visits of the run {name}, which the ledger of {other.name} has, too")
        if lines and (other := owners.setdefault(lines[-1].sha256_out, run)).seed != run.seed:
            yield f"{run.name} has ended with the same weights, to the last bit, as {other.name}."
        if not run.members:
            if not check_length(path, run, make_data(run.config["data"]), found.get("steps")):
                unlike.append(run.name)
            visits, ledgers = visits + (again["visits"] or 0), ledgers + bool(again["visits"])
    if unlike:
        yield f"Images and steps do not follow from settings and splits alone of {', '.join(unlike)}."
    yield f"{ledgers} ledgers: {visits} visits; every chain is whole, and has what the results say was sent."


def _check_predictions(crate: Path, run: Run, data: PackedRecords, task: Task) -> None:
    """See that a run has predicted its own test and validation records, and judge the first again."""
    path = crate / "runs" / run.name / FIT / PREDICTIONS
    check_records(read_predictions(task, path), path, data.table, "test")
    validated = path.with_name(VALIDATION)
    if validated.is_file() and is_ours(run.config["data"]["class_path"]):
        own = data.table[data.table["site"].isin(data.validated)]
        check_records(read_predictions(task, validated), validated, own, "val")
    found = read_result(crate, run.name)
    for name, value in judged(task, read_predictions(task, path, run.held_out)).items():
        if not near(found.get(name), value):
            raise InputError(f"{path} gives {name} {value:.4g}, but the result of the run has {found.get(name)}")


def _check_tables(
    crate: Path, runs: list[Run], settings: StudySettings, make_data: Callable[..., PackedRecords], task: Task
) -> Iterator[str]:
    """Judge the predictions again, and compare the results and each table."""
    for run in runs:
        _check_predictions(crate, run, make_data(run.config["data"]), task)
    tables = make_tables(crate, runs, settings.study.collection, task, settings.study.report)
    assert tables is not None
    names = []
    for name, again in tables.files():
        compare(crate / name, read_text_table(crate / name), again, "the predictions")
        names.append(name)
    for name in (*(f"{each}.csv" for each in TABLES), OVER_SITES, HELD_OUT, *DETAILS.values()):
        if name not in names and (crate / name).exists():
            raise InputError(f"{crate / name} cannot be computed again from what the crate has of predictions")
    for same in _copies(crate, runs):
        yield f"To the last digit, the same predictions are those of {', '.join(same)}."
    lacking = [run.name for run in runs if not (crate / "runs" / run.name / FIT / VALIDATION).is_file()]
    if lacking and len(lacking) < len(runs):
        yield f"There are no predictions of validation records of {', '.join(lacking)}."
    yield f"The predictions give the results of all runs, and the tables {', '.join(names)}."


def _copies(crate: Path, runs: list[Run]) -> list[list[str]]:
    """The runs of unlike seeds that have predicted the same to the last digit, as no two runs are likely to."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        sha256 = file_sha256(crate / "runs" / run.name / FIT / PREDICTIONS)
        found.setdefault((run.heuristic, sha256), []).append(run)
    return [[run.name for run in same] for same in found.values() if len({run.seed for run in same}) > 1]


def _version(entities: dict[str, dict[str, Any]]) -> str:
    return str(entities.get("#lit_dist", {}).get("softwareVersion", "unknown"))
