"""The jobs of a run: one after another, until it is made, or given up."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_dist.federation.flare import engine
from lit_dist.federation.flare import session as client
from lit_dist.federation.roster import Absent, Weights
from lit_dist.runs.make_trainer import as_list
from lit_dist.runs.resume import WITH_FOLDERS
from lit_dist.utils.errors import InputError

_PATIENCE = 120  # seconds
_NOT_FOUND = (
    "The run is not resumed, since it could not be found again: give it a logger with a folder, for example"
    " --trainer.logger+=CSVLogger --trainer.logger.save_dir=runs"
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How ``lit-dist federate`` is to make a run; its help says what each option means."""

    absent: Absent
    weights: Weights
    timeout: int
    retries: int
    resume: bool
    local: bool


def make_run(
    session: Any,
    folder: Path,
    settings: dict[str, Any],
    sites: list[str],
    options: RunOptions,
    check: Callable[[], None],
) -> dict[str, Any]:
    """Make a run; a job that a process's death has ended is followed by one that resumes.

    Args:
        session: The session of FLARE's administrator.
        folder: Where the jobs and their reports lie.
        settings: The run's settings.
        sites: The names of the sites, in the order of the run.
        options: Those of the command.
        check: Called while it waits; raises where that is of no use.

    Returns:
        The report of the last job.

    Raises:
        InputError: If a site is not connected, or the server does not answer.
    """
    command = uuid.uuid4().hex  # by which a job knows the run that one before it has begun
    report: dict[str, Any] = {}
    given_up: list[str] = []  # sites whose process died again and again
    blamed: set[str] = set()
    attempt = tries = 0
    while True:
        there = _there(session, sites, given_up, options, attempt > 0, check)
        job = folder / f"job_{attempt}"
        server = {"resume": options.resume, "command": command, "absent": options.absent}
        server |= {"weights": options.weights, "timeout": options.timeout}
        engine.write_job(job, settings, sites, there, server)
        report = client.make_job(session, job, check)
        attempt, tries = attempt + 1, tries + 1
        if not report.get("again"):
            return report
        if report.get("aborted") and set(there) <= set(client.connected(session, check)):  # else a site was shut down
            return {"error": "the job was aborted, and is not begun again; resume with --resume"}
        if not _is_found_again(settings["trainer"]["logger"]):
            return {"error": f"{report['error']}. {_NOT_FOUND}"}
        silent = {site for site in report.get("silent") or [] if site in there}
        blamed = silent if tries == 1 else blamed & silent  # it was the one that was asked, each time
        if tries > options.retries:
            if options.absent != "skip" or len(blamed) != 1 or blamed == set(there):
                return report
            given_up, tries = [*given_up, *blamed], 0
            print(f"Warning: site {given_up[-1]!r} is left out from here on", flush=True)
        print(f"{report['error']}; resuming (attempt {tries} of {options.retries})", flush=True)


def _is_found_again(loggers: Any) -> bool:
    """Whether the server finds a run again, by the folder of a logger."""
    named = [str(each["class_path"]).rpartition(".")[2] for each in as_list(loggers) if isinstance(each, dict)]
    return loggers is False or any(name in WITH_FOLDERS for name in named)


def _there(
    session: Any,
    sites: list[str],
    given_up: list[str],
    options: RunOptions,
    begun: bool,
    check: Callable[[], None],
) -> list[str]:
    """The sites that a job is given to: a job that names another would wait for ever."""
    patience = _PATIENCE if options.local and not begun else 0
    if begun and options.absent == "retry":  # until it is back
        patience = options.timeout
    end = time.monotonic() + patience
    said = False
    while not set(sites) <= set(found := client.connected(session, check)) and time.monotonic() < end:
        if begun and not said:
            away = ", ".join(site for site in sites if site not in found)
            print(f"Waiting for {away} to be connected again, for {patience} seconds at most", flush=True)
            said = True
        time.sleep(0.5)
    missing = [site for site in sites if site not in found]
    if missing and not ((begun or options.resume) and options.absent == "skip"):
        raise InputError(f"no site {missing[0]!r} is connected to the server; there are {', '.join(found) or 'none'}")
    return [site for site in sites if site in found and site not in given_up]
