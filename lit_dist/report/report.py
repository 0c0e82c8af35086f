"""The report of a study: one HTML file that needs nothing else, no network either."""

import base64
import html
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from string import Template

import pandas as pd

from lit_dist.provenance.run_settings import versions
from lit_dist.report.checklists import filled, plain, section
from lit_dist.report.contents import with_contents
from lit_dist.report.figures import Drawn, for_dark, title, write_figures
from lit_dist.report.html_table import table
from lit_dist.report.intervals import shown_intervals
from lit_dist.report.latex_tables import write_latex
from lit_dist.report.methods import methods, write_methods
from lit_dist.report.pairs import resolution
from lit_dist.report.shown_answers import answers_section
from lit_dist.report.shown_maps import Maps, maps_section
from lit_dist.report.shown_pairs import pairs_section
from lit_dist.report.shown_records import records_section
from lit_dist.report.shown_sites import sites_table
from lit_dist.report.shown_summary import over_sites_rows, summary_rows
from lit_dist.report.summary import what_it_does_not_say
from lit_dist.report.tables import Tables
from lit_dist.study.continued import CHECKLISTS, REPORT
from lit_dist.study.run import Run
from lit_dist.study.settings import SETTINGS, StudySettings
from lit_dist.utils.atomic_write import replacing

_READING = (
    "Mean over seeds; of single-institution models the mean over sites. Difference: from central with the same seeds."
    " The 95 % intervals are of a bootstrap over seeds and over patients with all their records (10 000 resamples;"
    " percentiles, wider by Student's t where few seeds vary; in each, all seeds but one are drawn): they hold the"
    " chance of training and that of the test, but not that of the split. Of a difference, both heuristics have the"
    " same patients and the same seeds; of several seeds, its interval is Student's, of the resamples' variance."
)
_FEW_SEEDS = {
    1: " With one seed they know nothing of the chance of training.",
    2: " Two seeds tell next to nothing of the chance of training.",
}


def write_report(runs: Sequence[Run], settings: StudySettings, tables: Tables, maps: Sequence[Maps] = ()) -> Path:
    """Draw the figures and write the report, beside the file of the study's settings.

    Args:
        runs: The study's plan.
        settings: Its settings.
        tables: Its tables.
        maps: Where models look, with images of records; none by default.

    Returns:
        The report's path.
    """
    study, results, task = tables.study, tables.results, tables.task
    summary = shown_intervals(tables.summary)
    drawn = write_figures(replace(tables, summary=summary), study / "figures")
    words = methods(runs, settings, tables)
    write_methods(words, study)
    write_latex(tables)
    measures = [task.measures[name].title for name in task.main]
    text = Template((files("lit_dist.report") / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Comparison of heuristics: {settings.study.collection}"),
        runs=_finished(results, len(runs), settings.study.seeds),
        measures=html.escape(" and ".join(measures)),
        summary="\n".join(table(summary_rows(summary, name, task.measures[name])) for name in task.main),
        reading=_READING
        + "".join(f" {html.escape(line)}" for line in what_it_does_not_say(summary, results, task))
        + _FEW_SEEDS.get(results["seed"].nunique(), ""),
        primary=html.escape(task.measures[task.primary].title),
        each_site=sites_table(tables),
        sites=table(over_sites_rows(tables.sites, task)),
        resolution=html.escape(resolution(tables.pairs, task)),
        pairs=pairs_section(tables),
        answers=answers_section(tables),
        records=records_section(study, bool(settings.study.leave_one_site_out)),
        figures="\n".join(_figure(name, title(name, task), each) for name, each in drawn.items()),
        maps=maps_section(maps),
        methods="\n".join(f"<p><strong>{name}.</strong> {html.escape(text)}</p>" for name, text in words.items()),
        plan=table(_plan(runs)),
        command=html.escape(f"lit-dist compare --config {study / SETTINGS} --output {study}"),
        versions=html.escape(", ".join(f"{name} {value}" for name, value in versions().items())),
        settings=html.escape((study / SETTINGS).read_text(encoding="utf-8")),
    )
    page = with_contents(text)
    items = filled(page, set(results["kind"]), _tests_elsewhere(settings), study / CHECKLISTS)
    with replacing(study / CHECKLISTS) as file:
        plain(items).to_csv(file, index=False)
    with replacing(study / REPORT) as file:
        file.write(page.replace("<!--checklists-->", section(items)).encode())
    return study / REPORT


def _finished(results: pd.DataFrame, runs: int, seeds: Sequence[int]) -> str:
    """How much there is to see."""
    tested = f"{results['n'].max()} test records"
    if "majority_rate" in results:
        guess = results["majority_rate"].iloc[0]
        tested += f", of which always guessing the commonest class gets {guess:.3f} right"
    return f"{len(results)} of {runs} runs are finished; seeds {', '.join(map(str, seeds))}; {tested}."


def _tests_elsewhere(settings: StudySettings) -> bool:
    """Whether models are tested at sites that took no part in their training."""
    return settings.study.leave_one_site_out or bool((settings.data.get("init_args") or {}).get("external"))


def _plan(runs: Sequence[Run]) -> pd.DataFrame:
    return pd.DataFrame([{"run": run.name, "seed": str(run.seed), "steps": str(run.steps)} for run in runs])


def _figure(name: str, title: str, drawn: Drawn) -> str:
    """A figure for four readers: on a light or a dark ground, at a desk or on a phone."""
    sources = {
        (width, ground): "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
        for width, light in drawn.svg.items()
        for ground, svg in (("light", light), ("dark", for_dark(light)))
    }
    dark, phone, title = "(prefers-color-scheme: dark)", "(max-width: 40rem)", html.escape(title)
    return (
        f'<figure id="{name}"><h3><a href="#{name}">{title}</a></h3><picture>'
        f'<source media="{phone} and {dark}" srcset="{sources["narrow", "dark"]}">'
        f'<source media="{phone}" srcset="{sources["narrow", "light"]}">'
        f'<source media="{dark}" srcset="{sources["wide", "dark"]}">'
        f'<img alt="{title}" src="{sources["wide", "light"]}"></picture>'
        f"<figcaption>{html.escape(drawn.caption)}</figcaption></figure>"
    )
