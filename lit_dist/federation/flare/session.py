"""NVIDIA FLARE's client: logs in, submits a job, and waits for its report."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import NoConnection, NoReply, SessionClosed
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from lit_dist.federation.flare.engine import REPORT
from lit_dist.utils.errors import InputError

_PATIENCE = 300.0  # seconds


def connect(kit: Path, user: str, patience: float, check: Callable[[], None] = lambda: None) -> Session:
    """Log in to a running FLARE system; ``InputError`` if it does not answer.

    Args:
        kit: The startup kit of an administrator.
        user: The name that the kit was made for.
        patience: For how many seconds to try.
        check: Called before each try; raises where it is of no use.
    """
    end = time.monotonic() + patience
    while True:
        check()
        try:
            return new_secure_session(user, str(kit), timeout=5)
        except Exception as error:  # of many kinds, by what is not up yet
            if time.monotonic() > end:
                raise InputError(f"no FLARE server answers to the startup kit {kit}: {error}") from None
            time.sleep(0.5)


def connected(session: Session, check: Callable[[], None] = lambda: None) -> list[str]:
    """The names of the sites that are connected to the server; ``InputError`` if it gives no answer for minutes."""
    found = _ask(session.get_system_info, check, "does not say who is connected to it")
    return sorted(client.name for client in found.client_info)


def make_job(session: Session, job: Path, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Submit a job, wait for its end, and fetch its report.

    Returns:
        The report; it has the key ``"error"`` if the run was not made, and ``"again"`` is true if it can be resumed;
        ``"aborted"`` is true if somebody, or a site that was shut down, has ended the job.

    Raises:
        InputError: If the server gives no answer for minutes, or refuses one.
    """
    try:
        number = session.submit_job(str(job))  # once only: without an answer it may have begun
    except Exception as error:
        raise InputError(f"the FLARE server has not taken the job ({_worded(error)}): look at its log") from error
    alone = f"job {number} may continue without this command"

    def status() -> str:
        meta = _ask(lambda: session.get_job_meta(number), check, f"gives no answer; {alone}")
        return str(meta.get("status", ""))

    try:
        while not (ended := status()).startswith(("FINISHED", "FAILED", "ABANDONED")):
            time.sleep(0.5)
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):  # the command ends in any case
            session.abort_job(number)
        raise
    folder = str(job.parent / "result")
    result = Path(
        _ask(lambda: session.download_job_result(number, folder), check, f"does not give job {number}'s report")
    )
    reports = sorted(result.rglob(REPORT))
    without = {"error": f"the job ended as {ended} without a report; its logs are in {result}", "again": True}
    report: dict[str, Any] = json.loads(reports[0].read_text()) if reports else without
    return {**report, "aborted": True} if ended == "FINISHED:ABORTED" else report


def _ask(call: Callable[[], Any], check: Callable[[], None], problem: str) -> Any:
    """Ask the server. One that trains on the same cores, or sends large weights, may be busy."""
    end = time.monotonic() + _PATIENCE
    while True:
        check()
        try:
            return call()
        except Exception as error:
            if not isinstance(error, (NoConnection, NoReply, SessionClosed)) or time.monotonic() > end:
                message = f"the FLARE server {problem} ({_worded(error)})"
                raise InputError(f"{message}: look at the server's log, and resume with --resume") from error
            time.sleep(0.5)


def _worded(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
