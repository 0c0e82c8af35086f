"""The tables of a study, made of what its finished runs have left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from lit_dist.report.calibration import calibration, calibration_curves
from lit_dist.report.confusion import confusion
from lit_dist.report.curves import curves
from lit_dist.report.intervals import FEWER_DRAWS, all_predictions, resample, with_both
from lit_dist.report.looks import Look, looks
from lit_dist.report.main_heuristics import main_heuristics
from lit_dist.report.operating_points import operating_points, without_thresholds
from lit_dist.report.over_sites import at_each_site, over_sites
from lit_dist.report.pairs import compare_pairs
from lit_dist.report.results import by_site, collect
from lit_dist.report.summary import groups, summarise, summarised
from lit_dist.study.continued import DETAILS, HELD_OUT, OVER_SITES, TABLES
from lit_dist.study.execute import FIT
from lit_dist.study.report_settings import ReportSettings
from lit_dist.study.run import Run, run_path
from lit_dist.tasks.task import Task


@dataclass(frozen=True)  # without slots, since it keeps what is asked for often
class Tables:
    """What the figures and the report of a study are made of.

    Attributes:
        study: The study's folder.
        results: The columns of ``results.csv``.
        at_sites: The columns of ``sites.csv``.
        summary: The columns of ``summary.csv``.
        pairs: The columns of ``pairs.csv``.
        sites: What ``over_sites`` gives.
        task: What is predicted.
        main: The labels of the heuristics that are shown where there is no room for all.
        points: What ``operating_points`` gives.
        wanted: How its thresholds are chosen.
        without_thresholds: The labels of heuristics that have none.
        curves: What ``curves`` gives.
        calibration: What ``calibration`` gives.
        bins: What ``calibration_curves`` gives.
        confusion: What ``confusion`` gives.
        each_site: What ``at_each_site`` gives.
    """

    study: Path
    results: pd.DataFrame
    at_sites: pd.DataFrame
    summary: pd.DataFrame
    pairs: pd.DataFrame
    sites: pd.DataFrame
    task: Task
    main: list[str] = field(default_factory=list)
    points: pd.DataFrame = field(default_factory=pd.DataFrame)
    wanted: ReportSettings = field(default_factory=ReportSettings)
    without_thresholds: list[str] = field(default_factory=list)
    curves: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=["curve"]))
    calibration: pd.DataFrame = field(default_factory=pd.DataFrame)
    bins: pd.DataFrame = field(default_factory=pd.DataFrame)
    confusion: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=["label", "true"]))
    each_site: pd.DataFrame = field(default_factory=pd.DataFrame)

    def fit(self, run: str) -> Path:
        """What the training of a run has left."""
        return run_path(self.study, run) / FIT

    @cached_property
    def runs(self) -> dict[str, pd.DataFrame]:
        """The rows of ``results.csv`` of each heuristic, by its label."""
        return groups(self.results)

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How each heuristic is drawn, by its label."""
        return looks(self.study, self.results)

    def files(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """The tables by the names of their files."""
        tables = (self.results, self.at_sites, self.summary, self.pairs)
        yield from zip((f"{name}.csv" for name in TABLES), tables, strict=True)
        yield HELD_OUT if self.results["held_out"].notna().any() else OVER_SITES, self.sites
        for name in DETAILS:
            if len(found := getattr(self, name)):
                yield DETAILS[name], found


def make_tables(
    study: Path, runs: Sequence[Run], collection: str, task: Task, wanted: ReportSettings | None = None
) -> Tables | None:
    """Make the tables of a study; None where no run is finished.

    Args:
        study: The study's folder.
        runs: Its plan.
        collection: The name of the collection.
        task: What is predicted.
        wanted: How thresholds are chosen.

    Raises:
        InputError: If what a run has left is damaged, or runs were tested on different records.
    """
    results = collect(study, runs, collection, task)
    if results.empty:
        return None
    found = all_predictions(study, results, task)
    main = resample(found, task)
    shown = main | resample(found, task, [name for name in task.main if name not in main])
    others = resample(found, task, [name for name in summarised(task) if name not in shown], FEWER_DRAWS)
    summary = with_both(summarise(results, task), results, shown | others)
    labels = main_heuristics(results, summary, task)
    wanted = wanted or ReportSettings()
    return Tables(
        study,
        results,
        by_site(study, results, task),
        summary,
        compare_pairs(main),
        over_sites(found, task),
        task,
        labels,
        operating_points(found, task, wanted),
        wanted,
        list(without_thresholds(found)),
        curves(found, task, labels),
        calibration(found, task),
        calibration_curves(found, task, labels),
        confusion(found, task),
        at_each_site(found, task),
    )
