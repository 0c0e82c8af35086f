"""What the finished runs of a study have found: one row a run, and every prediction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dist.study.execute import (
    FIT,
    PREDICTIONS,
    VALIDATION,
    judged,
    read_predictions,
    read_result,
    result_path,
    scored,
)
from lit_dist.study.heuristics import KINDS, LABELS
from lit_dist.study.run import Run, run_path
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

_BEFORE = [
    *("run", "collection", "heuristic", "kind", "site", "every_n_epochs", "every_n_steps", "order", "optimizer_state"),
    *("held_out", "seed", "split", "n"),
]
_BEHIND = ["best_cycle", "visits", "transfers", "bytes_sent", "steps", "seconds"]
WHICH = ["heuristic", "every_n_epochs", "every_n_steps", "order", "optimizer_state"]
"""The columns that say what a run is one of, whatever its seed and site."""

_WHOLE = ["every_n_epochs", "every_n_steps", "seed", "n", "best_cycle", "visits", "transfers", "bytes_sent", "steps"]


def columns(task: Task) -> list[str]:
    """The columns of ``results.csv``; the measures stand there with those first that say how hard the images are."""
    measures = sorted(
        (name for name in task.measures if name != "loss"), key=lambda name: bool(task.measures[name].better)
    )
    return [*_BEFORE, *measures, "loss", *_BEHIND]


def collect(study: Path, runs: Sequence[Run], collection: str, task: Task) -> pd.DataFrame:
    """Make the table of the runs of a plan that are finished.

    Returns:
        The columns of ``results.csv``, one row a run, in the order of the plan.
    """
    rows = []
    for run in runs:
        if not result_path(study, run.name).exists():
            continue
        own = {name: getattr(run, name) for name in (*WHICH, "kind", "site", "held_out", "seed")}
        found = read_result(study, run.name)
        rows.append({"run": run.name, "collection": collection, "split": "test", **own, **found})
    table = pd.DataFrame(rows, columns=columns(task))
    return table.astype(dict.fromkeys(_WHOLE, "Int64"))


def by_site(study: Path, results: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Make the table of how well each run performs at each site, from the saved predictions.

    Returns:
        The columns of ``sites.csv``, one row a run and site of test images (``tested_at``).
    """
    rows: list[dict[Any, Any]] = []
    for run in results[["run", *WHICH, "site", "held_out", "seed"]].to_dict("records"):
        found = read_predictions(task, run_path(study, run["run"]) / FIT / PREDICTIONS, run.pop("held_out"))
        for site, images in found.groupby("site", sort=False):
            rows.append({**run, "tested_at": site, **judged(task, images)})
    return pd.DataFrame(rows)


def label_of(which: Sequence[Any], table: pd.DataFrame) -> str:
    """A short name for what a row is one of, by the values of ``WHICH``, among the others of a table.

    A name of the user's stays as it is, unless the study has made several heuristics of it.
    """
    heuristic, every_n_epochs, every_n_steps, order, state = which
    short = heuristic in KINDS
    rivals = table[table["heuristic"].isin(KINDS) if short else table["heuristic"] == heuristic]
    label = LABELS.get(heuristic, str(heuristic))
    several = len(rivals[["every_n_epochs", "every_n_steps"]].drop_duplicates()) > 1
    for value, unit in ((every_n_epochs, "epoch"), (every_n_steps, "step")):
        if not pd.isna(value) and (short or several):
            label += f", every {value} {unit}s" if value != 1 else f", every {unit}"
    for value, column in ((order, "order"), (state, "optimizer_state")):
        if isinstance(value, str) and rivals[column].nunique() > 1:
            label += f", {value}"
    return label


@dataclass(frozen=True, slots=True)
class Part:
    """What the runs of a heuristic have predicted of the records that they were all tested on.

    Attributes:
        records: Their numbers, rising, (some,).
        scores: Of each seed, the scores of its runs (the sites' models), each (some, ...).
        validation: Of the same runs, the scores and targets of their validation records; None where they are not known.
    """

    records: NDArray[np.int64]
    scores: list[list[Tensor]]
    validation: list[list[tuple[Tensor, Tensor] | None]]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a heuristic has predicted of each test record.

    Attributes:
        table: The columns ``site``, ``image`` and ``patient`` of the records.
        targets: The records' targets, (records, ...).
        patients: The number of the patient that each record is of, (records,).
        parts: The predictions; several parts where sites are held out in turn, each of models of its own.
        seed_numbers: The seeds, in the order of each part's scores.
    """

    table: pd.DataFrame
    targets: Tensor
    patients: NDArray[np.int64]
    parts: list[Part]
    seed_numbers: list[int]

    @property
    def seeds(self) -> int:
        """How many seeds there are."""
        return len(self.parts[0].scores)

    def values(
        self, task: Task, metric: str, often: Tensor, rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """A measure of each seed in many resamples: the mean over the seed's runs, and over parts by their sizes.

        Args:
            task: What is predicted.
            metric: The measure.
            often: How often a resample has drawn each record, float64, (resamples, records).
            rows: The records that ``often`` is of, rising; all by default.

        Returns:
            (seeds, resamples); NaN where the measure is not defined.
        """
        rows = np.arange(len(self.targets)) if rows is None else rows
        total = np.zeros((self.seeds, len(often)))
        size = np.zeros_like(total)
        for part in self.parts:
            inside = np.flatnonzero(np.isin(rows, part.records))
            if not len(inside):
                continue
            drawn, targets = often[:, inside], self.targets[rows[inside]]
            own = np.searchsorted(part.records, rows[inside])
            found = [
                torch.stack([task.resampled(metric, scores[own], targets, drawn) for scores in runs]).nanmean(dim=0)
                for runs in part.scores
            ]
            value, weight = torch.stack(found).numpy(), drawn.sum(dim=1).numpy()
            known = ~np.isnan(value)
            total += np.where(known, value, 0) * weight
            size += known * weight
        return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)


def predictions(study: Path, runs: pd.DataFrame, task: Task) -> Predictions:
    """Read the saved predictions of the runs of one heuristic; where sites are held out in turn, those at all of them.

    Args:
        study: The study's folder.
        runs: Rows of ``results.csv``.
        task: What is predicted.

    Raises:
        InputError: If runs that are to be compared were tested on different records.
    """
    tables: list[pd.DataFrame] = []
    parts: list[Part] = []
    patients: list[str] = []
    for site, same in runs.groupby("held_out", dropna=False):
        table: pd.DataFrame | None = None
        by_seed: dict[Any, list[Tensor]] = {}
        chosen_by: dict[Any, list[tuple[Tensor, Tensor] | None]] = {}
        for run in same[["run", "seed"]].to_dict("records"):
            path = run_path(study, run["run"]) / FIT / PREDICTIONS
            own = read_predictions(task, path, site).sort_values("image", ignore_index=True)
            if table is not None and not table["image"].equals(own["image"]):
                raise InputError(f"{path} has other records than the runs beside it; the splits differ")
            table = own if table is None else table
            by_seed.setdefault(run["seed"], []).append(scored(task, own)[0])
            validated = path.with_name(VALIDATION)
            known = scored(task, read_predictions(task, validated)) if validated.exists() else None
            chosen_by.setdefault(run["seed"], []).append(known)
        assert table is not None
        begin = sum(map(len, tables))
        patients += [json.dumps([str(site), patient]) for patient in table["patient"]]
        rows, seeds = np.arange(begin, begin + len(table)), sorted(by_seed)
        parts.append(Part(rows, [by_seed[seed] for seed in seeds], [chosen_by[seed] for seed in seeds]))
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    targets = torch.tensor(task.targets(table["label"].to_numpy()))
    number = np.unique(patients, return_inverse=True)[1]
    return Predictions(
        table[["site", "image", "patient"]], targets, number, parts, sorted(map(int, runs["seed"].unique()))
    )
