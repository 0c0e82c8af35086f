"""The report of a study: one HTML file that needs nothing else, no network either."""

import base64
import html
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from lit_dist.models.metrics import shown
from lit_dist.provenance.run_settings import versions
from lit_dist.report.bootstrap import resolution
from lit_dist.report.figures import Drawn, as_svg, title, write_figures
from lit_dist.report.summary import what_it_does_not_say
from lit_dist.report.tables import Tables
from lit_dist.study.plan import Run
from lit_dist.study.settings import SETTINGS, StudySettings
from lit_dist.tasks.task import Measure, Task
from lit_dist.utils.atomic_write import replacing

REPORT = "report.html"


def write_report(runs: Sequence[Run], settings: StudySettings, tables: Tables) -> Path:
    """Draw the figures and write the report, beside the file of the study's settings.

    Returns:
        The report's path.
    """
    study, results, summary, task = tables.study, tables.results, tables.summary, tables.task
    drawn = write_figures(tables, study / "figures")
    seeds = ", ".join(map(str, settings.study.seeds))
    measures = [task.measures[name].title for name in task.main]
    text = Template((files("lit_dist.report") / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Comparison of heuristics: {settings.study.collection}"),
        runs=f"{len(results)} of {len(runs)} runs are finished; seeds {seeds}; {results['n'].max()} test records"
        + (
            f", of which always guessing the commonest class gets {results['majority_rate'].iloc[0]:.3f} right."
            if "majority_rate" in results
            else "."
        ),
        measures=html.escape(" and ".join(measures)),
        summary="\n".join(
            f'<div class="table">{_table(_summary(summary, name, task.measures[name]))}</div>' for name in task.main
        ),
        reading="Mean over seeds with the 95 % interval by Student's t; of single-institution models the mean over"
        " sites. Difference: from central with the same seed."
        + "".join(f" {html.escape(line)}" for line in what_it_does_not_say(summary, results, task))
        + (" Two seeds give intervals too wide to tell anything by." if results["seed"].nunique() < 3 else ""),
        primary=html.escape(task.measures[task.primary].title),
        sites=_table(_over_sites(tables.sites, task)),
        resolution=html.escape(resolution(tables.pairs, task)),
        pairs="\n".join(_pairs_of(tables.pairs, name, task) for name in tables.pairs["metric"].unique()),
        figures="\n".join(_figure(name, title(name, task), each) for name, each in drawn.items()),
        plan=_table(_plan(runs)),
        command=html.escape(f"lit-dist compare --config {study / SETTINGS} --output {study}"),
        versions=html.escape(", ".join(f"{name} {value}" for name, value in versions().items())),
        settings=html.escape((study / SETTINGS).read_text(encoding="utf-8")),
    )
    with replacing(study / REPORT) as file:
        file.write(text.encode())
    return study / REPORT


def _summary(summary: pd.DataFrame, metric: str, measure: Measure) -> pd.DataFrame:
    rows = summary[summary["metric"] == metric]
    return pd.DataFrame(
        {
            "heuristic": rows["label"].map(html.escape),
            "seeds": rows["seeds"].map(str),
            measure.title: [shown(value, measure) for value in rows["mean"]],
            "95 % interval": [_span(*ends) for ends in zip(rows["low"], rows["high"], strict=True)],
            "sd": rows["sd"].map(_number),
            "difference": rows["difference"].map(_number),
            "its interval": [
                _span(*ends) for ends in zip(rows["difference_low"], rows["difference_high"], strict=True)
            ],
            "share of central": rows["share_of_central"].map(_number),
        }
    )


def _pairs_of(pairs: pd.DataFrame, metric: str, task: Task) -> str:
    """The table of one measure; all but the first can be unfolded."""
    table = f'<div class="table">{_table(_pairs(pairs[pairs["metric"] == metric]))}</div>'
    title = html.escape(task.measures[metric].title)
    return table if metric == task.primary else f"<details><summary>By {title}</summary>{table}</details>"


def _pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "first": pairs["first"].map(html.escape),
            "second": pairs["second"].map(html.escape),
            "difference": pairs["difference"].map(_number),
            "95 % interval": [_span(*ends) for ends in zip(pairs["low"], pairs["high"], strict=True)],
            "p": pairs["p"].map(_p),
            "adjusted p": pairs["p_adjusted"].map(_p),
        }
    )


def _p(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else _number(value)


def _over_sites(sites: pd.DataFrame, task: Task) -> pd.DataFrame:
    measure = task.measures[task.primary]
    columns = {"heuristic": sites["label"].map(html.escape), "sites": sites["sites"].map(str)}
    for name, heading in (("pooled", "all together"), ("mean", "mean of sites"), ("worst", "worst site")):
        values = zip(*(sites[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)
        cells = [f"{shown(value, measure)} ({_span(low, high)})" for value, low, high in values]
        columns[heading] = pd.Series(cells, sites.index)
    columns |= {"at": sites["worst_site"].map(html.escape), "sd of sites": sites["spread"].map(_number)}
    return pd.DataFrame(columns)


def _plan(runs: Sequence[Run]) -> pd.DataFrame:
    return pd.DataFrame([{"run": run.name, "seed": str(run.seed), "steps": str(run.steps)} for run in runs])


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _span(low: Any, high: Any) -> str:
    return "" if pd.isna(low) else f"{low:.3f} to {high:.3f}"


def _table(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, escape=False)


def _figure(name: str, title: str, drawn: Drawn) -> str:
    """A figure for four readers: on a light or a dark ground, at a desk or on a phone."""
    sources = {
        (width, ground): "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
        for width, figure in (("wide", drawn.wide), ("narrow", drawn.narrow))
        for ground, svg in as_svg(figure).items()
    }
    dark, phone, title = "(prefers-color-scheme: dark)", "(max-width: 40rem)", html.escape(title)
    return (
        f'<figure id="{name}"><h3>{title}</h3><picture>'
        f'<source media="{phone} and {dark}" srcset="{sources["narrow", "dark"]}">'
        f'<source media="{phone}" srcset="{sources["narrow", "light"]}">'
        f'<source media="{dark}" srcset="{sources["wide", "dark"]}">'
        f'<img alt="{title}" src="{sources["wide", "light"]}"></picture>'
        f"<figcaption>{html.escape(drawn.caption)}</figcaption></figure>"
    )
