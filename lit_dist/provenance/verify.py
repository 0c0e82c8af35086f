"""Whether a run did what its ledger says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_dist.checkpoints.baton import APART, TRAINED, fingerprint, read_checkpoint
from lit_dist.checkpoints.run_folder import LEDGER, checkpoints_of
from lit_dist.provenance.audit import AuditError, audit
from lit_dist.provenance.ledger import AnyLine, iter_lines
from lit_dist.provenance.line import FIRST
from lit_dist.provenance.visit_account import find_account, find_merging, waiting_entry, waiting_merge
from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import check_parts


def verify(run: str | Path) -> str:
    """Check the ledger in a run's folder, by itself and against the run's newest checkpoint.

    Returns:
        What was found to be in order, as text.

    Raises:
        InputError: At the first thing that is not.
    """
    run = Path(run)
    if run.is_file():
        raise InputError(f"{run} is a file; give the folder of its run")
    path = run / LEDGER
    state = _last_state(run)
    if not path.exists() and (state is None or state.head != FIRST):  # else the first visit's line is to be written
        raise InputError(f"there is no ledger at {path}; give the folder of a run with a transfer callback")
    try:
        seen = audit(iter_lines(path) if path.exists() else [], *((state.head, state.waiting) if state else ()))
    except AuditError as error:
        raise InputError(f"{path}, {error}") from None
    if not (seen.visits or seen.estimations) and (state is None or state.head != FIRST):
        raise InputError(f"{path} has no line: it was emptied, or the run ended within its first visit")
    merges = f" and {seen.merges} merges" if seen.merges else ""
    merges += f" and {seen.estimations} estimation(s)" if seen.estimations else ""
    said = [f"{path}: {seen.visits} visits{merges} of {seen.runs} run(s); the chain is whole."]
    if seen.left_out:
        said.append(f"Visits that were left out: {', '.join(seen.left_out)}.")
    if seen.changed:
        said.append(f"Visits that were made with other settings than those before: {', '.join(seen.changed)}.")
    if state is None:
        said.append("There is no checkpoint, so lines that were cut off its end would not be noticed.")
    else:
        last = state.waiting[-1] if state.waiting else seen.head
        if state.weights is not None and last is not None:
            expected = last.sha256_out if state.within_round else seen.handed_on
            if expected != fingerprint(state.weights)[0]:
                raise InputError(f"{state.path} does not have the weights that {last.name} ended with or handed on")
        said.append(f"{state.path} belongs to it.")
    return "\n".join(said)


@dataclass(frozen=True, slots=True)
class _State:
    """What a checkpoint says of the visits: its head is the hash of the last line that had been written."""

    path: Path
    head: str
    waiting: list[AnyLine]  # what had ended, and whose lines were to be written after a validation
    weights: dict[str, Any] | None  # None if they are not those of a visit's end
    within_round: bool  # whether they are a visit's own, which are still to be merged


def _last_state(run: Path) -> _State | None:
    path = next(iter(checkpoints_of(run)), None)
    if path is None:
        return None
    try:
        check_parts(content := read_checkpoint(path))
    except InputError as error:
        raise InputError(
            f"the newest checkpoint of {run} cannot be used, and --resume passes it over: {error}"
        ) from None
    try:
        apart = content.get(APART)  # not in a run of an earlier release with an average
        weights: dict[str, Any] | None = dict(content[TRAINED if apart else "state_dict"])
        record = find_account(content)
        if record is None:
            return None
        if not record["ended"] or ("averaging_state" in content and not apart):
            weights = None
        merging = find_merging(content)
        waiting = [waiting_entry(record), waiting_merge(merging) if merging else None]
        within_round = merging is not None and (merging["branch"] or merging["ended"] is not None)
        return _State(path, record["head"], [line for line in waiting if line], weights, within_round)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} is not a checkpoint of a run") from None
