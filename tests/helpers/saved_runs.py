"""Runs of a study that have left nothing but their predictions."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lit_dist.report.results import columns
from lit_dist.tasks.classification import Classification

TASK = Classification(2)


def saved(
    run: str,
    scores: Mapping[str, float],
    labels: Mapping[str, int],
    sites: Mapping[str, str] = {},
    file: str = "predictions",
) -> None:
    """The predictions of a run; an image's patient is the first letter of its name."""
    folder = Path("runs") / run / "fit"
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"image": list(scores), "probability_1": list(scores.values())})
    table["probability_0"] = 1 - table["probability_1"]
    table["site"] = [sites.get(image, "a") for image in scores]
    table["patient"] = [image[0] for image in scores]
    table["label"] = [labels[image] for image in scores]
    table.to_csv(folder / f"{file}.csv", index=False)


def results(*runs: tuple[str, str, int], held_out: Mapping[str, str] = {}) -> pd.DataFrame:
    rows = [
        {"run": run, "heuristic": kind, "kind": kind, "seed": seed, "held_out": held_out.get(run)}
        for run, kind, seed in runs
    ]
    return pd.DataFrame(rows, columns=columns(TASK)).astype({"every_n_epochs": "Int64"})


LABELS = {"a1": 1, "a2": 0, "b1": 1, "c1": 0, "d1": 1, "d2": 0}
GOOD = {"a1": 0.9, "a2": 0.2, "b1": 0.6, "c1": 0.3, "d1": 0.8, "d2": 0.1}
POOR = {"a1": 0.4, "a2": 0.7, "b1": 0.6, "c1": 0.65, "d1": 0.3, "d2": 0.55}
