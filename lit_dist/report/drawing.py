"""What the figures of a study share: the tables that they are drawn of, and how they look."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lit_dist.study.execute import FIT
from lit_dist.study.plan import run_path
from lit_dist.tasks.task import Task

# Okabe and Ito's colours, which people who see fewer colours can tell apart: https://jfly.uni-koeln.de/color/
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"]


@dataclass(frozen=True, slots=True)
class Tables:
    """What the figures and the report of a study are made of.

    Attributes:
        study: The study's folder.
        results: The columns of ``results.csv``.
        summary: The columns of ``summary.csv``.
        pairs: The columns of ``pairs.csv``.
        sites: What ``over_sites`` gives.
        task: What is predicted.
    """

    study: Path
    results: pd.DataFrame
    summary: pd.DataFrame
    pairs: pd.DataFrame
    sites: pd.DataFrame
    task: Task

    def fit(self, run: str) -> Path:
        """What the training of a run has left."""
        return run_path(self.study, run) / FIT


def shown(label: str) -> str:
    """A label that is drawn as it is: matplotlib reads formulas between dollars, and hides what begins with _."""
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")


def heat(axes: Axes, values: pd.DataFrame, across: str, title: str) -> None:
    """Draw a table as colours, one row a site or heuristic, with its values where there are few."""
    image = axes.imshow(values.to_numpy(float), aspect="auto", cmap="cividis", interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label=title)
    step = max(1, len(values.columns) // 12)
    places = range(0, len(values.columns), step)
    axes.set_xticks(places, [shown(str(values.columns[place])) for place in places])
    axes.set_yticks(range(len(values)), [shown(str(site)) for site in values.index])
    axes.set_xlabel(across)
    if values.size <= 100:
        middle = np.nanmean(values.to_numpy(float))
        for (row, column), value in np.ndenumerate(values.to_numpy(float)):
            colour = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
