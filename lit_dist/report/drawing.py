"""What the figures of a study share: how they look."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.0
"""The widths of a journal's figures, in inches."""

_FEW = 100
"""The most cells of a heat map that have their numbers written into them."""


def shown(label: str) -> str:
    """A label that is drawn as it is: matplotlib reads formulas between dollars, and hides what begins with _."""
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")


def folded(label: str, width: int = 30) -> str:
    """A label as ``shown``, in lines of so many characters."""
    return "\n".join(map(shown, textwrap.wrap(label, width) or [label]))


def cut(label: str, width: int = 18) -> str:
    """A label as ``shown``, its middle left out where it is long: names of one kind often begin alike.

    Example:
        >>> cut("University Hospital Bern")
        'University …l Bern'
    """
    if len(label) > width:
        end = width // 3
        label = f"{label[: width - 1 - end]}…{label[-end:]}"
    return shown(label)


def narrow(axes: Axes) -> bool:
    """Whether the figure is one column wide."""
    figure: Any = axes.figure
    return bool(figure.get_figwidth() < TWO_COLUMNS)


def set_height(axes: Axes, inches: float) -> None:
    """Give the figure a height, which nothing stretches."""
    figure: Any = axes.figure
    figure.set_figheight(inches)


def panels(axes: Axes, heights: Sequence[float]) -> list[Axes]:
    """Axes one below the other, with their heights in relation to each other, in place of the given ones."""
    figure: Any = axes.figure
    spec: Any = axes.get_subplotspec()
    inside = spec.subgridspec(len(heights), 1, height_ratios=heights)
    axes.remove()
    return [figure.add_subplot(each) for each in inside]


def legend(axes: Axes) -> None:
    """Put the legend beneath the axes, in room of its own. Its labels are ``shown`` already."""
    figure: Any = axes.figure
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    room = 55 if narrow(axes) else 120  # characters in a line
    if once:
        columns = max(1, min(len(once), 5, room // (max(map(len, once)) + 6)))
        names = ["\n".join(textwrap.wrap(label, room - 10)) for label in once]
        lines = sum(name.count("\n") + 1 for name in names)
        figure.set_figheight(figure.get_figheight() + 0.15 * -(-lines // columns))
        figure.legend(once.values(), names, loc="outside lower center", ncols=columns, frameon=False)


def heat(axes: Axes, values: pd.DataFrame, across: str, title: str, **colours: Any) -> None:
    """Draw a table as colours, one row a site or heuristic, with its values where there are few.

    Args:
        axes: Where to draw.
        values: The table.
        across: What its columns are.
        title: What its values are.
        colours: What ``Axes.imshow`` takes, such as ``cmap`` and the ends of its scale.
    """
    numbers = values.to_numpy(float)
    image = axes.imshow(numbers, **{"aspect": "auto", "cmap": "cividis", "interpolation": "nearest", **colours})
    bar: Any = axes.figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05, aspect=25)
    bar.set_label(folded(title, 18))
    bar.outline.set_linewidth(0.5)
    names = [cut(str(each), 12) for each in values.columns]
    longest = max(map(len, names))
    upright = longest > 3 and longest * len(names) > (18 if narrow(axes) else 80)
    most = (40 if upright else 20 if longest < 3 else 12) // ((3 if upright else 2) if narrow(axes) else 1)
    step = -(-len(names) // most)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=90 if upright else 0)
    step = -(-len(values) // 40)
    name, width = (folded, 24) if len(values) <= 12 and not narrow(axes) else (cut, 14 if narrow(axes) else 24)
    axes.set_yticks(range(0, len(values), step), [name(str(each), width) for each in values.index[::step]])
    for axis, number in ((axes.yaxis, len(values)), (axes.xaxis, len(names))):
        axis.set_tick_params(labelsize=6 if number > 12 else None)
    axes.set_xlabel(across)
    if values.size <= _FEW and not (narrow(axes) and len(names) > 8):
        for (row, column), value in np.ndenumerate(numbers):
            if np.isfinite(value):
                red, green, blue = image.cmap(image.norm(value))[:3]
                colour = "black" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
