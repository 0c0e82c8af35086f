"""``lit-dist compare``: plans a study, does its runs, and writes its tables, figures and report."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from filelock import FileLock

from lit_dist.models.metrics import shown
from lit_dist.runs.lightning_cli import SiteParser
from lit_dist.study.continued import TASK, check_files, check_same
from lit_dist.study.plain_settings import plain_settings
from lit_dist.study.plan import make_plan, study_data
from lit_dist.study.run import Run, words_of
from lit_dist.study.settings import (
    MOST_MAPS,
    NOT_OF_STUDY,
    SETTINGS,
    StudySettings,
    parsed,
    study_folder,
    study_parser,
    with_lists,
)
from lit_dist.tasks.found import task_of_data
from lit_dist.tasks.named import described
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.extras import need
from lit_dist.utils.open_page import open_page
from lit_dist.utils.setting_checks import check_count
from lit_dist.utils.terminal_table import print_table

if TYPE_CHECKING:  # of the extra `report`, and not needed for the help
    from lit_dist.report.shown_maps import Maps
    from lit_dist.report.tables import Tables

_REPORT = "the report that a study ends with"


def main(args: list[str]) -> None:
    """Run ``lit-dist compare`` with the words that follow it."""
    if any(word == "--run" or word.startswith("--run=") for word in args):
        _one(args)
        return
    parser = study_parser()
    given = parser.parse_args(with_lists(args))
    settings = parsed(parser, given)
    study = study_folder(given.output, settings.study)
    runs = make_plan(settings)
    if not given.print_commands and not _trained(study, runs):
        need("report", _REPORT)  # before hours of training
    check_count(0, MOST_MAPS, saliency=given.saliency)
    if given.saliency and not given.print_commands:
        need("report", "--saliency", "captum")
    _write_plan(study, runs, {**plain_settings(given), **_read(settings)})
    if given.print_commands:
        for run in runs:
            print(shlex.join(["lit-dist", *words_of(study, run.name)]))
        return
    _print_plan(runs, settings)
    failed = _work(study, runs, settings)
    with FileLock(study / "lock"):  # others may write it up too
        report = _write_up(study, runs, settings, given.saliency)
    if given.open and report is not None:
        open_page(report)
    if failed:
        raise InputError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; the same command tries again")


def _read(settings: StudySettings) -> dict[str, Any]:
    """The settings that are written in another form than they were given in."""
    return {"heuristics": [each.plain() for each in settings.heuristics], "trainer": settings.trainer}


def _write_plan(study: Path, runs: Sequence[Run], given: dict[str, Any]) -> None:
    own = {name: value for name, value in given.items() if name not in NOT_OF_STUDY}
    check_files(study, runs)
    study.mkdir(parents=True, exist_ok=True)
    with FileLock(study / "lock"):  # another command may begin at the same moment
        check_same(study, own)
        with replacing(study / SETTINGS) as file:  # before the plan, which is told by it
            file.write(yaml.safe_dump(own, sort_keys=False).encode())
        for run in runs:
            run.write(study)


def _trained(study: Path, runs: Sequence[Run]) -> bool:
    from lit_dist.study.execute import result_path

    return all(result_path(study, run.name).exists() for run in runs)


def _one(args: list[str]) -> None:
    from lit_dist.study.execute import execute

    parser = SiteParser(prog="lit-dist compare", description="Do one run of a study that was planned.")
    parser.add_argument("--output", type=str, help="The study's folder.", required=True)
    parser.add_argument("--run", type=str, help="The run's name.", required=True)
    options = parser.parse_args(args)
    execute(Path(options.output), options.run)


def _work(study: Path, runs: Sequence[Run], settings: StudySettings) -> dict[str, str]:
    from lit_dist.study.processes import Workers

    try:
        return Workers(study, runs, settings.study.jobs).work()
    except KeyboardInterrupt:
        raise InputError("interrupted; the same command does what is missing") from None


def _print_plan(runs: Sequence[Run], settings: StudySettings) -> None:
    rows: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        by_steps = run.every_n_steps and f"every {run.every_n_steps} steps"
        length = by_steps or (run.every_n_epochs and f"every {run.every_n_epochs}")
        options = [length, run.order, run.optimizer_state]
        rows.setdefault((run.heuristic, ", ".join(str(option) for option in options if option)), []).append(run)
    print_table(
        f"The plan: {len(runs)} runs, seeds {', '.join(map(str, settings.study.seeds))}",
        ["heuristic", "options", "runs", "steps a run"],
        [[*key, str(len(same)), str(max(run.steps for run in same))] for key, same in rows.items()],
    )
    sys.stdout.flush()


def _write_up(study: Path, runs: Sequence[Run], settings: StudySettings, saliency: int) -> Path | None:
    """Write the tables and the report of what is finished, and say what it comes to; the report's path.

    With ``saliency``, the report shows so many records that models are surely right of, and wrong of.
    """
    from lit_dist.report.describe_records import describe_records
    from lit_dist.report.pairs import resolution
    from lit_dist.report.tables import make_tables

    data = study_data(settings)
    task = task_of_data(data)
    tables = make_tables(study, runs, settings.study.collection, task, settings.study.report)
    if tables is None:
        return None
    with replacing(study / TASK) as file:
        file.write(json.dumps(described(task)).encode())
    for name, table in [*tables.files(), *describe_records(data)]:
        with replacing(study / name) as file:
            table.to_csv(file, index=False)
    _print_summary(tables.summary, tables.results, task)
    print(resolution(tables.pairs, task))
    if settings.study.leave_one_site_out and len(tables.sites):
        _print_held_out(tables.sites, tables.results["held_out"].nunique(), task)
    need("report", f"the tables are in {study}; {_REPORT}")
    from lit_dist.report.report import write_report

    maps = _maps(tables, saliency) if saliency else []
    report = write_report(runs, settings, tables, maps)
    print(f"The report: {report}")
    if shown := sum(len(each.cases) for each in maps):
        print(f"It shows {shown} images of records: mind who gets it. Without --saliency it is written without them.")
    return report


def _maps(tables: "Tables", number: int) -> "list[Maps]":
    from lit_dist.export.saliency import where_models_look

    maps = list(where_models_look(tables, number))
    if not maps:
        print("--saliency looks at central, transfers and other callbacks, of which no run is finished here")
    return maps


def _print_summary(summary: pd.DataFrame, results: pd.DataFrame, task: Task) -> None:
    """Print the task's main measures of each heuristic, the first one with its interval."""
    from lit_dist.report.intervals import shown_intervals
    from lit_dist.report.summary import what_it_does_not_say

    summary = shown_intervals(summary)
    means = summary.pivot(index="label", columns="metric", values="mean")
    primary, *others = task.main
    rows = []
    for row in summary[summary["metric"] == primary].to_dict("records"):
        within = "" if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"
        share = "" if pd.isna(row["share_of_central"]) else f"{100 * row['share_of_central']:.1f} %"
        values = [shown(means[name][row["label"]], task.measures[name]) for name in task.main]
        rows.append([row["label"], str(row["seeds"]), values[0], within, share, *values[1:]])
    titles = [task.measures[name].title for name in others]
    columns = ["heuristic", "seeds", task.measures[primary].title, "95 % interval", "of central", *titles]
    held_out = results["held_out"].notna().any()
    print_table("Each site, held out in turn" if held_out else "Test records of all sites", columns, rows)
    for line in what_it_does_not_say(summary, results, task):
        print(line)


def _print_held_out(held_out: pd.DataFrame, number: int, task: Task) -> None:
    """Print the mean over the sites that were held out, the worst one, and the spread."""
    rows = [
        [row["label"], str(row["sites"]), f"{row['mean']:.3f}", f"{row['worst']:.3f}", row["worst_site"],
         "" if pd.isna(row["spread"]) else f"{row['spread']:.3f}"]
        for row in held_out.to_dict("records")
    ]  # fmt: skip
    title = task.measures[task.primary].title
    print_table(f"{title} at sites that took no part", ["heuristic", "sites", "mean", "worst", "at", "sd"], rows)
    known = held_out["sites"].min()
    if known < number:
        print(f"The {title} is undefined at {number - known} of the {number} sites, which are not among these.")
