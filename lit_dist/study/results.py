"""What the finished runs of a study have found: one row a run, and every prediction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lit_dist.study.execute import FIT, PREDICTIONS, judged, read_predictions, read_result, result_path, scored
from lit_dist.study.heuristics import KINDS, LABELS
from lit_dist.study.plan import Run, run_path
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
class Predictions:
    """How well a heuristic has predicted each test image.

    Attributes:
        values: The mean over its runs (seeds, and sites' models) of what the task says of each image, such as 1 where
            its class is right, or the error of its value, (images,).
        patients: The number of the patient that each image is of, (images,).
    """

    values: NDArray[np.float64]
    patients: NDArray[np.int64]


def predictions(study: Path, runs: pd.DataFrame, task: Task) -> Predictions:
    """Read the saved predictions of the runs of one heuristic; where sites are held out in turn, those at all of them.

    Args:
        study: The study's folder.
        runs: Rows of ``results.csv``.
        task: What is predicted.

    Raises:
        InputError: If runs that are to be compared were tested on different images.
    """
    values: list[NDArray[np.float64]] = []
    patients: list[str] = []
    for site, same in runs.groupby("held_out", dropna=False):
        table, own = _mean_of(study, list(same["run"]), site, task)
        values.append(own)
        patients += [json.dumps([str(site), patient]) for patient in table["patient"]]
    return Predictions(np.concatenate(values), np.unique(patients, return_inverse=True)[1])


def _mean_of(study: Path, names: Sequence[str], site: Any, task: Task) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    values: list[NDArray[np.float32]] = []
    first: pd.DataFrame | None = None
    for name in names:
        path = run_path(study, name) / FIT / PREDICTIONS
        table = read_predictions(task, path, site).sort_values("image", ignore_index=True)
        if first is not None and not table["image"].equals(first["image"]):
            raise InputError(f"{path} has other images than the runs beside it; the splits differ")
        first = table if first is None else first
        values.append(task.of_each(*scored(task, table)).numpy())
    assert first is not None
    return first, np.mean(values, axis=0, dtype=np.float64)
