"""Whether a command resumes the study that is in its folder, or would put another one in its place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lit_dist.runs.changed_settings import changed_settings
from lit_dist.runs.make_trainer import as_list
from lit_dist.study.execute import FIT_SETTINGS, RESULT
from lit_dist.study.progress import FILE
from lit_dist.study.run import PLAN, Run, run_path
from lit_dist.study.run_names import NO_MATTER
from lit_dist.study.settings import SETTINGS
from lit_dist.utils.atomic_write import check_file, check_folder, check_kind
from lit_dist.utils.errors import InputError
from lit_dist.utils.yaml_text import read_yaml

TABLES = ("results", "sites", "summary", "pairs")
OVER_SITES, HELD_OUT = "over_sites.csv", "held_out.csv"
"""How heuristics perform over sites; the second where each site is held out in turn."""
DETAILS = {
    "points": "operating_points.csv",
    "curves": "curves.csv",
    "calibration": "calibration.csv",
    "bins": "calibration_curves.csv",
    "confusion": "confusion.csv",
    "each_site": "site_intervals.csv",
}
"""Those that a report is made of beside them, by what it calls them; some are of tasks that predict chances."""
TABLE_1, FLOW = "table_1.csv", "flow.csv"
"""Who the records are of, by site, and which were not used."""
TASK = "task.json"
"""What a study predicts, so that its tables can be made again without its data."""
REPORT, CHECKLISTS, METHODS = "report.html", "checklists.csv", "methods.txt"
LOG = "log.txt"
OF_STUDY = (
    SETTINGS,
    "lock",
    REPORT,
    CHECKLISTS,
    METHODS,
    TASK,
    TABLE_1,
    FLOW,
    OVER_SITES,
    HELD_OUT,
    *(f"{name}.csv" for name in TABLES),
    *DETAILS.values(),
)
_MAY_GROW = ("every_n_epochs", "every_n_steps", "orders", "optimizer_states", "seeds")
_MAY_DIFFER = {"jobs", "wandb", "report", *NO_MATTER}


def check_files(study: Path, runs: Sequence[Run]) -> None:
    """See that a study can write its plan, its tables and its report.

    Raises:
        InputError: If one of them, or its folder, cannot be written.
    """
    for folder in (study, study / "runs", study / "figures"):
        check_folder(folder)
    for name in OF_STUDY:
        check_file(study / name)
    for path in (study / "figures").glob("*"):
        check_kind(path)
    for run in runs:
        check_folder(run_path(study, run.name))
        for name in (PLAN, RESULT, FIT_SETTINGS, LOG, FILE):
            check_file(run_path(study, run.name) / name)


def check_same(study: Path, settings: Mapping[str, Any]) -> None:
    """Refuse other settings than those of the study in a folder; there may be more seeds, heuristics or options.

    Raises:
        InputError: If one differs.
    """
    path = study / SETTINGS
    if not path.exists():
        if any(study.glob(f"runs/*/{PLAN}")):
            raise InputError(f"{path} is gone, and its study has runs: put back a copy, or give another --output")
        return
    before, now = read_yaml(path), yaml.safe_load(yaml.safe_dump(settings))
    if not isinstance(before, dict):
        raise InputError(f"{path} has no settings of a study: put back a copy, or give another --output")
    _check_heuristics(study, before, now)
    for name in _MAY_GROW:
        old, new = before.pop(name, []), now.pop(name)
        missing = [value for value in old if value not in new] if isinstance(old, list) else []
        if missing:
            raise InputError(
                f"{name} lacks {missing[0]!r}, which the study in {study} has: name it, too, or give another --output"
            )
    for name, was, wanted in changed_settings(before, now):
        if name.partition(".")[0] in before and not _MAY_DIFFER & set(name.split(".")):  # else it is a newer release's
            raise InputError(
                f"{name} is {wanted!r}, but it was {was!r} in the study in {study}: take its settings (--config"
                f" {path}), or give another --output"
            )


def _check_heuristics(study: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse a heuristic that is gone, or has another meaning under the same name."""
    old, new = (_by_name(settings.pop("heuristics", None)) for settings in (before, now))
    for name, heuristic in old.items():
        if name not in new:
            raise InputError(
                f"heuristics lacks {name!r}, which the study in {study} has: name it, too, or give another --output"
            )
        for setting, was, wanted in changed_settings(heuristic, new[name]):
            raise InputError(
                f"{setting} of the heuristic {name!r} is {wanted!r}, but it was {was!r} in the study in {study}: give"
                " the changed one a name of its own beside the old one, or give another --output"
            )


def _by_name(heuristics: Any) -> dict[str, Any]:
    found = {each.get("name") if isinstance(each, dict) else each: each for each in as_list(heuristics)}
    return {str(name): {} if isinstance(each, str) else each for name, each in found.items()}
