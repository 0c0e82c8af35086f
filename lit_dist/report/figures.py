"""The figures of a study. Each takes the study's tables and draws on axes of its own; none keeps state."""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lit_dist.report.answer_figures import calibration, confusion, precision_recall, roc
from lit_dist.report.comparison import bytes_sent, frequency, heuristics
from lit_dist.report.drawing import ONE_COLUMN, TWO_COLUMNS
from lit_dist.report.looks import INK, on_dark
from lit_dist.report.residuals import residuals_by_site, residuals_by_value
from lit_dist.report.site_matrix import matrix, transferability
from lit_dist.report.tables import Tables
from lit_dist.report.training import curves
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import replacing

_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK[0]),
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6},
    **{"font.size": 8, "legend.fontsize": 7, "xtick.labelsize": 7, "ytick.labelsize": 7},
}

Draw = Callable[[Axes, Tables], str | None]
FIGURES: Mapping[str, tuple[str, Draw]] = {
    "heuristics": ("Test {0}", heuristics),
    "heuristics_2": ("Test {1}", partial(heuristics, place=1)),
    "roc": ("ROC curves", roc),
    "precision_recall": ("Precision and recall", precision_recall),
    "calibration": ("Calibration", calibration),
    "confusion": ("What is taken for what", confusion),
    "curves": ("Validation loss", curves),
    "frequency": ("How often the weights move", frequency),
    "site_matrix": ("What is kept and what is forgotten", matrix),
    "transferability": ("Single-institution models elsewhere", transferability),
    "bytes": ("What was sent", bytes_sent),
    "residuals": ("Errors by value", residuals_by_value),
    "residuals_sites": ("Errors by site", residuals_by_site),
}
"""Each figure's title, and what draws it and gives its caption; None if there is nothing to draw."""


def title(name: str, task: Task) -> str:
    """The title of a figure."""
    return FIGURES[name][0].format(*(task.measures[measure].title for measure in task.main), "")


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        wide: As wide as two columns of a journal.
        narrow: As wide as one.
        caption: What stands beneath it.
    """

    wide: Figure
    narrow: Figure
    caption: str

    @cached_property
    def svg(self) -> dict[str, bytes]:
        """Both widths as SVG without ground; their text is text."""
        return {
            width: _saved(figure, "svg", transparent=True)
            for width, figure in (("wide", self.wide), ("narrow", self.narrow))
        }


def draw(name: str, tables: Tables) -> Drawn | None:
    """Draw one of ``FIGURES``; None if there is nothing to draw."""
    wide = _draw(name, tables, TWO_COLUMNS)
    narrow = wide and _draw(name, tables, ONE_COLUMN)
    return Drawn(wide[0], narrow[0], wide[1]) if wide and narrow else None


def _draw(name: str, tables: Tables, width: float) -> tuple[Figure, str] | None:
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, 2.9 if width == TWO_COLUMNS else 2.3), layout="constrained")
        caption = FIGURES[name][1](figure.add_subplot(), tables)
        if caption is None:
            return None
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        for _ in range(2):  # the second time with the ticks of the first one's sizes
            figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once; a file is then drawn once, with "none" twice
    return figure, caption


def for_dark(svg: bytes) -> bytes:
    """An SVG without ground in the colours for a dark one."""
    dark = {light.encode(): colour.encode() for light, colour in on_dark().items()}
    return re.sub(rb"#[0-9a-f]{6}", lambda found: dark.get(found[0], found[0]), svg)


def _on_white(svg: bytes) -> bytes:
    """An SVG without ground on a white one."""
    return re.sub(rb"(<svg\b[^>]*>)", rb'\1\n <rect width="100%" height="100%" fill="#ffffff"/>', svg, count=1)


def _saved(figure: Figure, suffix: str, **options: Any) -> bytes:
    """A file of the figure, the same bytes each time; text is text, in fonts that a PDF brings along."""
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    file = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "lit_dist"}):
        figure.savefig(file, format=suffix, dpi=300, metadata=dates[suffix], **options)
    return file.getvalue()


def write_figures(tables: Tables, folder: Path) -> dict[str, Drawn]:
    """Write each figure as PNG, SVG and PDF, on white, two columns wide and one.

    Returns:
        Those that there are.
    """
    figures = {}
    for name in FIGURES:
        drawn = draw(name, tables)
        if drawn is not None:
            figures[name] = drawn
        for width, suffix in product(("", "_one_column"), ("png", "svg", "pdf")):
            path = folder / f"{name}{width}.{suffix}"
            if drawn is None:
                path.unlink(missing_ok=True)  # of an earlier plan
                continue
            with replacing(path) as file:
                file.write(_file(drawn, "narrow" if width else "wide", suffix))
    return figures


def _file(drawn: Drawn, width: str, suffix: str) -> bytes:
    if suffix == "svg":
        return _on_white(drawn.svg[width])
    return _saved(drawn.wide if width == "wide" else drawn.narrow, suffix, facecolor="white")
