"""The methods of a study in words that a paper can take: all of them read from its settings and its runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lit_dist.report.data_methods import data_methods
from lit_dist.report.described import counted, described, listed
from lit_dist.report.intervals import DRAWS, FEWER_DRAWS
from lit_dist.report.tables import Tables
from lit_dist.report.training_methods import training_methods
from lit_dist.runs.make_trainer import as_list
from lit_dist.study.continued import METHODS
from lit_dist.study.environment import read_environment
from lit_dist.study.heuristics import OWN, Heuristic
from lit_dist.study.run import Run, run_path
from lit_dist.study.settings import StudySettings
from lit_dist.utils.atomic_write import replacing

_SAID = (
    "every_n_epochs",
    "every_n_steps",
    "order",
    "optimizer_state",
    "seed",
    "validation",
    "on_divergence",
    "baton_dir",
)
"""Settings of a transfer that are told in words, or that change no weights."""

_STATES = {
    "reset": "with a new state of the optimizer at each visit",
    "carry": "with the optimizer's state travelling along",
    "local": "with a state of the optimizer that stays at each site",
}
_ROUTINE = ("ModelCheckpoint", "SiteEvaluation", "RunProgress")


def methods(runs: Sequence[Run], settings: StudySettings, tables: Tables) -> dict[str, str]:
    """The paragraphs of a study's methods, by their headings."""
    done = [run for run in runs if run.name in set(tables.results["run"])]
    return {
        "Data": data_methods(settings, done, tables),
        "Heuristics": " ".join(_heuristics(done, settings, tables)),
        "Training": " ".join(training_methods(settings, tables)),
        "Evaluation": " ".join(_evaluation(settings, tables)),
        "Software and hardware": _environment(tables.study, done),
    }


def write_methods(paragraphs: dict[str, str], study: Path) -> None:
    """Write the paragraphs as text into a study's folder."""
    with replacing(study / METHODS) as file:
        file.write("\n\n".join(f"{heading}. {text}" for heading, text in paragraphs.items()).encode() + b"\n")


def _heuristics(runs: Sequence[Run], settings: StudySettings, tables: Tables) -> Iterable[str]:
    by_name = {run.name: run for run in runs}
    given = {each.name: each for each in settings.heuristics}
    shared = [each for each in as_list(settings.trainer.get("callbacks")) if not _is_routine(each)]
    for label, rows in tables.runs.items():
        run = by_name[rows["run"].iloc[0]]
        heuristic = given.get(run.heuristic, Heuristic(run.heuristic, run.kind, []))
        steps = sorted({int(each) for each in rows["steps"].dropna() if each})
        took = f" ({' to '.join(map(str, dict.fromkeys([steps[0], steps[-1]])))} optimizer steps)" if steps else ""
        told = [_way(run, settings), _callbacks(heuristic, shared)]
        yield f"{label}: {_joined(*(reversed(told) if run.kind == OWN else told))}{took}."
    if shared:
        yield f"All runs had {listed(map(_told, shared))}, unless said otherwise."


def _way(run: Run, settings: StudySettings) -> str:
    study = settings.study
    if run.kind == "central":
        return "one model was trained on the pooled training records of all sites"
    if run.kind == "single":
        as_long = "for as many optimizer steps as models of all sites"
        length = as_long if study.single_budget == "steps" else f"for {counted(study.passes, 'pass', 'es')} over them"
        return f"one model a site was trained on that site's records alone, {length}"
    if run.kind == "ensemble":
        return "the predictions of the single-institution models of a seed were averaged"
    order = f"in {run.order} order" if run.order else ""
    state = _STATES.get(run.optimizer_state or "", "")
    if run.kind == "single_weight_transfer":
        ended = f"until {study.monitor} had not improved in {counted(study.patience, 'validation')}"
        most = f"for at most {counted(study.passes, 'epoch')} there"
        return _joined("one model visited each site once", order, ended, most, state)
    return _joined(
        "" if run.kind == OWN else "one model travelled from site to site in cycles", order, _length(run), state
    )


def _length(run: Run) -> str:
    for value, unit in ((run.every_n_epochs, "epoch"), (run.every_n_steps, "step")):
        if value:
            return f"with visits of {counted(value, unit)}"
    return ""


def _callbacks(heuristic: Heuristic, shared: Sequence[Any]) -> str:
    """The callbacks of a heuristic that others do not have, and those that it lacks."""
    kept = heuristic.beside(shared)
    lacks = [_told(each) for each in shared if each not in kept]
    own = listed(map(_told, heuristic.callbacks)) if heuristic.callbacks else ""
    return (
        ("" if heuristic.kind == OWN or not own else "with ") + own + (f" in place of {listed(lacks)}" if lacks else "")
    )


def _told(callback: Any) -> str:
    """A callback with all of its settings, but for those that other words tell."""
    given = callback.get("init_args") or {} if isinstance(callback, dict) else {}
    return described(callback, without=_SAID, always=[name for name, value in given.items() if value is not None])


def _evaluation(settings: StudySettings, tables: Tables) -> Iterable[str]:
    task, results = tables.task, tables.results
    title = task.measures[task.primary].title
    others = [task.measures[name].title for name in task.main[1:]]
    where = "all sites' test records"
    if settings.study.leave_one_site_out:
        where = "the records of each site in turn, which took no part in training"
    also = f", beside it {listed(others)}" if others else ""
    yield f"The primary measure was the {title} on {where}{also}."
    several = results["seed"].nunique() > 1
    drawn = "seeds and over patients" if several else "patients"
    ends = "percentiles, widened by Student's t where few seeds vary" if several else "percentiles"
    yield (
        f"Values are {'means over seeds' if several else 'of one seed'}; their 95 % intervals are of a bootstrap over"
        f" {drawn} with all their records ({DRAWS} resamples, {ends})."
    )
    if pairs := int((tables.pairs["metric"] == task.primary).sum()) if len(tables.pairs) else 0:
        student = " and Student's t with Satterthwaite's degrees of freedom" if several else ""
        yield (
            f"Heuristics were compared on the same test records by a paired bootstrap over {drawn} ({DRAWS} resamples)"
            f"{student}, p adjusted for {counted(pairs, 'pair')} by Holm's method."
        )
    if len(tables.points):
        yield f"Sensitivity and specificity are at thresholds that each run chose {tables.wanted}."
    if len(tables.calibration):
        yield (
            "Calibration was judged by the Brier score and by the expected calibration error in up to"
            " ten bins of as many records, 20 at least."
        )
    yield (
        "What holds over sites has intervals by a bootstrap over sites, their patients, and seeds"
        f" ({FEWER_DRAWS} resamples)."
    )


def _environment(study: Path, runs: Sequence[Run]) -> str:
    found = [read_environment(run_path(study, run.name)) for run in runs if not run.members]
    known = [each for each in found if each]
    if not known:
        return "What the runs were done with was not recorded."
    programs: dict[str, dict[str, None]] = {}
    for each in known:
        for name, value in each["versions"].items():
            programs.setdefault(name, {})[str(value)] = None
    threads = listed(programs.pop("threads", ["1"]))
    names = {"python": "Python", "torch": "PyTorch", "lightning": "Lightning"}
    told = [f"{names.get(name, name)} {' and '.join(values)}" for name, values in programs.items()]
    machines = dict.fromkeys(_machine(each) for each in known)
    missing = (
        f" Of {len(found) - len(known)} of {len(found)} runs this was not recorded." if len(known) < len(found) else ""
    )
    of = f"{threads} {'thread' if threads == '1' else 'threads'} of the processor"
    return f"Runs were done with {listed(told)}, on {listed(machines)}, with {of}.{missing}"


def _machine(found: dict[str, Any]) -> str:
    precision = f"in precision {found.get('precision')}"
    if found.get("device") == "cpu":
        return f"{found.get('processor')} ({found.get('system')}), {precision}"
    return f"{found.get('device')} (CUDA {found.get('cuda')}) beside {found.get('processor')}, {precision}"


def _is_routine(callback: Any) -> bool:
    path = callback.get("class_path") if isinstance(callback, dict) else callback
    return str(path).rpartition(".")[2] in _ROUTINE


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
