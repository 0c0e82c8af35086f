"""What the figures of a study share: how they look."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

# Okabe and Ito's colours, which people who see fewer colours can tell apart: https://jfly.uni-koeln.de/color/
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"]


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
