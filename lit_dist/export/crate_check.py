"""Whether a study that others have packed holds what its tables say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lit_dist.checkpoints.run_folder import LEDGER, SPLITS
from lit_dist.export.crate_files import METADATA, check_files, opened, read_entities
from lit_dist.export.predicted_records import check_records
from lit_dist.provenance.run_settings import versions
from lit_dist.provenance.verify import verify
from lit_dist.report.tables import make_tables
from lit_dist.study.continued import DETAILS, HELD_OUT, OVER_SITES, TABLES, TASK
from lit_dist.study.execute import FIT, PREDICTIONS, judged, read_predictions, read_result, travels
from lit_dist.study.plan import Run, read_run
from lit_dist.study.report_settings import ReportSettings
from lit_dist.study.run_names import has_settings
from lit_dist.study.settings import SETTINGS
from lit_dist.tasks.named import task_described
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import file_sha256
from lit_dist.utils.errors import InputError
from lit_dist.utils.yaml_text import read_yaml

_RELATIVE, _ABSOLUTE = 1e-4, 5e-4
"""How far a number may be from the one that is computed again: processors round differently, and a report shows three
digits."""
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
        results = _read(crate / "results.csv")
        runs = _runs(crate, results)
        yield f"The settings of the {len(runs)} runs are those that their names have the hash of."
        yield _check_ledgers(crate, runs)
        yield _check_splits(crate, runs)
        task = task_described(read_yaml(crate / TASK))
        if task is None:
            yield "What is predicted is a task of the authors' own code, so that the tables are not computed again."
        else:
            yield from _check_tables(crate, runs, str(results["collection"].iloc[0]), task)
        made, here = _version(entities), versions()["lit_dist"]
        if made != here:
            yield f"It was made by lit_dist {made}; this is {here}."
        yield (
            "Whether the runs were trained as their ledgers say, only training again can show; whoever made the crate"
            f" could have made all of it up. Its fingerprint: {file_sha256(crate / METADATA)}"
        )


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing, or no table: {error}") from None


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


def _check_ledgers(crate: Path, runs: list[Run]) -> str:
    visits = ledgers = 0
    for run in runs:
        folder = crate / "runs" / run.name / FIT
        found = read_result(crate, run.name)
        if not run.members:
            if (folder / LEDGER).is_file():
                verify(folder)
            elif found.get("visits") is not None:
                raise InputError(f"{folder} has no ledger of the {found['visits']} visits that the run has made")
            again = travels(folder / LEDGER)
            if {name: found.get(name) for name in again} != again:
                raise InputError(f"{folder / LEDGER} has {again}, and the result of the run says otherwise")
            visits, ledgers = visits + (again["visits"] or 0), ledgers + bool(again["visits"])
    return f"{ledgers} ledgers: {visits} visits; every chain is whole, and has what the results say was sent."


def _check_splits(crate: Path, runs: list[Run]) -> str:
    """See that no patient is in two splits of a run."""
    records = patients = 0
    for path in (crate / "runs" / run.name / FIT / SPLITS for run in runs if not run.members):
        table = _read(path) if path.is_file() else pd.DataFrame()
        if not {"patient", "site", "split", "image"} <= set(table):
            raise InputError(f"{path} is missing, or has not the columns of a run's splits")
        places = table.groupby("patient")["split"].nunique()
        if (places > 1).any():
            raise InputError(f"{path}: {places.idxmax()!r} is in more than one split")
        records, patients = max(records, len(table)), max(patients, len(places))
    return f"Splits: {records} records of {patients} patients; none of them is in two splits of a run."


def _check_tables(crate: Path, runs: list[Run], collection: str, task: Task) -> Iterator[str]:
    """Judge the predictions again, and compare the results and each table."""
    for run in runs:
        path = crate / "runs" / run.name / FIT / PREDICTIONS
        table = read_predictions(task, path, run.held_out)
        splits = crate / "runs" / (run.members[0] if run.members else run.name) / FIT / SPLITS
        if run.held_out is None and splits.is_file():
            check_records(table, path, splits, task)
        found = read_result(crate, run.name)
        for name, value in judged(task, table).items():
            if not _near(found.get(name), value):
                raise InputError(f"{path} gives {name} {value:.4g}, but the result of the run has {found.get(name)}")
    wanted = ReportSettings(**(read_yaml(crate / SETTINGS).get("report") or {}))
    tables = make_tables(crate, runs, collection, task, wanted)
    assert tables is not None
    names = []
    for name, again in tables.files():
        _compare(crate / name, again)
        names.append(name)
    for name in (*(f"{each}.csv" for each in TABLES), OVER_SITES, HELD_OUT, *DETAILS.values()):
        if name not in names and (crate / name).exists():
            raise InputError(f"{crate / name} cannot be computed again from what the crate has of predictions")
    yield f"The predictions give the results of all runs, and the tables {', '.join(names)}."


def _compare(path: Path, again: pd.DataFrame) -> None:
    stated = _read(path)
    if len(stated) != len(again):
        raise InputError(f"{path} has {len(stated)} rows, and the predictions give {len(again)}")
    if more := set(stated) - set(again):
        raise InputError(f"{path} has the column {min(map(str, more))}, which does not follow from the predictions")
    for column in again.columns:
        if column not in stated:
            raise InputError(f"{path} has no column {column}, which the predictions give")
        same = [_near(*pair) for pair in zip(stated[column], again[column], strict=True)]
        if not all(same):
            row = same.index(False)
            raise InputError(
                f"{path}, row {row + 1}: {column} is {stated[column].iloc[row]}, and the predictions give"
                f" {again[column].iloc[row]}"
            )


def _near(stated: Any, again: Any) -> bool:
    if pd.isna(stated) or pd.isna(again):
        return bool(pd.isna(stated) and pd.isna(again))
    try:
        return bool(np.isclose(float(stated), float(again), rtol=_RELATIVE, atol=_ABSOLUTE))
    except (TypeError, ValueError):
        return str(stated) == str(again)


def _version(entities: dict[str, dict[str, Any]]) -> str:
    return str(entities.get("#lit_dist", {}).get("softwareVersion", "unknown"))
