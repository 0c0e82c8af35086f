"""What the finished runs of a study have found: one row a run, and every prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lit_dist.study.execute import (
    FIT,
    PREDICTIONS,
    judged,
    probabilities_of,
    read_predictions,
    read_result,
    result_path,
)
from lit_dist.study.heuristics import KINDS, LABELS
from lit_dist.study.plan import Run, run_path
from lit_dist.utils.errors import InputError

COLUMNS = [
    *("run", "collection", "heuristic", "kind", "site", "every_n_epochs", "every_n_steps", "order", "optimizer_state"),
    *("seed", "split", "n"),
    *("majority_rate", "accuracy", "balanced_accuracy", "auroc", "loss", "best_cycle", "visits", "transfers"),
    *("bytes_sent", "steps", "seconds"),
]
WHICH = ["heuristic", "every_n_epochs", "every_n_steps", "order", "optimizer_state"]
"""The columns that say what a run is one of, whatever its seed and site."""

_WHOLE = ["every_n_epochs", "every_n_steps", "seed", "n", "best_cycle", "visits", "transfers", "bytes_sent", "steps"]


def collect(study: Path, runs: Sequence[Run], collection: str) -> pd.DataFrame:
    """Make the table of the runs of a plan that are finished.

    Returns:
        The columns of ``results.csv``, one row a run, in the order of the plan.
    """
    rows = []
    for run in runs:
        if not result_path(study, run.name).exists():
            continue
        own = {name: getattr(run, name) for name in (*WHICH, "kind", "site", "seed")}
        found = read_result(study, run.name)
        rows.append({"run": run.name, "collection": collection, "split": "test", **own, **found})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(_WHOLE, "Int64"))


def by_site(study: Path, results: pd.DataFrame) -> pd.DataFrame:
    """Make the table of how well each run performs at each site, from the saved predictions.

    Returns:
        The columns of ``sites.csv``, one row a run and site of test images (``tested_at``).
    """
    rows: list[dict[Any, Any]] = []
    for run in results[["run", *WHICH, "site", "seed"]].to_dict("records"):
        found = read_predictions(run_path(study, run["run"]) / FIT / PREDICTIONS)
        for site, images in found.groupby("site", sort=False):
            rows.append({**run, "tested_at": site, **judged(images)})
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
    """Which test images a heuristic has got right.

    Attributes:
        right: The share of its runs (seeds, and sites' models) that classify each image rightly, (images,).
        patients: The number of the patient that each image is of, (images,).
    """

    right: NDArray[np.float64]
    patients: NDArray[np.int64]


def predictions(study: Path, names: Sequence[str]) -> Predictions:
    """Read the saved predictions of runs of one heuristic.

    Raises:
        InputError: If the runs were tested on different images.
    """
    right: list[NDArray[np.bool_]] = []
    first: pd.DataFrame | None = None
    for name in names:
        path = run_path(study, name) / FIT / PREDICTIONS
        table = read_predictions(path).sort_values("image", ignore_index=True)
        if first is not None and not table["image"].equals(first["image"]):
            raise InputError(f"{path} has other images than the runs beside it; the splits differ")
        first = table if first is None else first
        right.append(probabilities_of(table).argmax(axis=1) == table["label"].to_numpy())
    assert first is not None
    patients = first["patient"].to_numpy()
    return Predictions(np.mean(right, axis=0), np.unique(patients, return_inverse=True)[1])
