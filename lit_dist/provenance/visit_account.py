"""What a checkpoint says of the visits: the state of its transfer callback, and the names of its parts."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

from lit_dist.provenance.entry import Entry
from lit_dist.provenance.merge import Merge
from lit_dist.utils.file_backed import FileBacked


class VisitAccount(TypedDict):
    """The account of the visit that is under way, or of the last one.

    Attributes:
        run: The run's id.
        rule: By which the settings are hashed; an early release did not say it, and hashed by the first.
        origin: The checkpoint of another run that the run began with; empty if there is none.
        visit: The visit's number, cycle and site; None before the first.
        ended: Whether it has ended.
        within_epoch: Whether the end of a fit has cut it short in the middle of an epoch.
        head: The hash of the ledger's last line.
        waiting: The line of a visit that has ended, while it waits for a validation.
        images: How many it has trained on.
        first_step: The optimizer step at which it began.
        rates: The learning rates at its first step, and at the last one so far.
        sha256_in: The hash of the weights that it began with.
        sha256_out: The hash of the weights that the last visit ended with.
        seconds: How long it has taken.
    """

    run: str
    rule: NotRequired[int]
    origin: NotRequired[str]
    visit: tuple[int, int, str] | None
    ended: bool
    within_epoch: NotRequired[bool]
    head: str
    waiting: dict[str, Any] | None
    images: int
    first_step: int
    rates: tuple[list[float], list[float]]
    sha256_in: str
    sha256_out: str
    seconds: float


def new_account(rule: int) -> VisitAccount:
    """The account of a run that has not begun, without an id; what a checkpoint lacks of one is as it is here."""
    return {
        "run": "",
        "rule": rule,
        "origin": "",
        "visit": None,
        "ended": True,
        "within_epoch": False,
        "head": "",
        "waiting": None,
        "images": 0,
        "first_step": 0,
        "rates": ([], []),
        "sha256_in": "",
        "sha256_out": "",
        "seconds": 0.0,
    }


class DivergenceState(TypedDict):
    """What became of a visit that diverged.

    Attributes:
        skipping: Whether the rest of it passes without training.
        came_in: The weights and the optimizers' states that it began with, if it may be skipped.
    """

    skipping: bool
    came_in: dict[str, Any] | None


class MergingState(TypedDict):
    """How far the merge of a round has come.

    Attributes:
        base: The weights, and the travelling state of callbacks, that the round's visits begin with.
        schedules: The schedules and the optimizers' options that they begin with; None before the first.
        sums: The weighted sums of the weights and of the travelling state so far.
        total: The sum of what they count.
        parents: The visits, the hashes of the weights that they ended with, and what they count.
        branch: Whether a visit has begun with the base, and what has come of it is not yet in the sums.
        images: How many were trained on since then.
        ended: A visit that has ended, and has not been taken into account: its number, outcome, images and hash.
        waiting: The line of a merge that waits for a validation.
    """

    base: dict[str, Any] | None
    schedules: dict[str, Any] | None
    sums: tuple[Any, Any]
    total: float
    parents: list[tuple[int, str, float]]
    branch: bool
    images: int
    ended: tuple[int, str, int, str] | None
    waiting: dict[str, Any] | None


class TransferState(TypedDict):
    """The state of a transfer callback; a heuristic may add to it.

    Attributes:
        record: The account of the visit.
        divergence: What became of it.
        optimizer_states: With ``optimizer_state="local"``, the states of the sites that wait for their next visit.
        merging: How far the merge of a round has come, where there are merges.
    """

    record: VisitAccount
    divergence: DivergenceState
    optimizer_states: dict[str, FileBacked]
    merging: NotRequired[MergingState]


def transfer_state(checkpoint: Mapping[str, Any], key: str) -> TransferState:
    """The state of a transfer callback in a checkpoint or baton, by the callback's key."""
    return cast(TransferState, checkpoint["callbacks"][key])


def find_account(checkpoint: Mapping[str, Any]) -> VisitAccount | None:
    """What a checkpoint says of the visits; None if the run has no transfer callback."""
    states = checkpoint["callbacks"].values()
    return next((state["record"] for state in states if isinstance(state, Mapping) and "record" in state), None)


def find_merging(checkpoint: Mapping[str, Any]) -> MergingState | None:
    """What a checkpoint says of the merge of a round; None if the run has none."""
    states = checkpoint["callbacks"].values()
    return next((state["merging"] for state in states if isinstance(state, Mapping) and "merging" in state), None)


def waiting_entry(account: VisitAccount) -> Entry | None:
    """The line of a visit that has ended and waits for a validation."""
    return Entry(**account["waiting"]) if account["waiting"] else None


def waiting_merge(state: MergingState) -> Merge | None:
    """The line of a merge that waits for a validation."""
    return Merge(**state["waiting"]) if state["waiting"] else None
