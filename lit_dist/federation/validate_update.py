"""What must hold of the baton that a site gives back: that it can have become of the one that it was sent."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from lit_dist.callbacks import WeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.federation.dry_run import DryRun
from lit_dist.federation.travelling_state import SCALE, is_scale
from lit_dist.federation.validate_answer import check_metrics, most_images, refused
from lit_dist.federation.validate_optimizers import CLOSE, check_groups, check_schedules, check_states
from lit_dist.federation.validate_progress import check_places, check_progress
from lit_dist.federation.validate_weights import check_callbacks, check_received_weights
from lit_dist.federation.wire import Tree
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.visit_account import (
    DivergenceState,
    TransferState,
    VisitAccount,
    transfer_state,
    waiting_entry,
)
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_bounds import MALFORMED, alike, is_count, is_hash, is_name, is_number, is_plain, same

_OUTCOMES = ("trained", "skipped")  # all else is for the server to find
_MEASURED = {"outcome", "images", "sha256_in", "sha256_out", "seconds", "settings", "versions", "metrics", "previous"}
_RATES = {"learning_rates_start", "learning_rates_end"}
_OF_SITE = {"head", "waiting", "images", "rates", "sha256_in", "sha256_out", "seconds"}
"""What of the account of a visit a dry run does not know."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a site was asked, and what the server knows of the answer before it comes.

    Attributes:
        site: The site's name.
        sent: The baton that it was sent.
        due: The number of the visit that it was sent for.
        dry_run: The partial fit as the server has gone through it without images.
        optimizers: The server's optimizers.
        transfer: The run's transfer callback.
        sites: The names of all sites.
        settings: The SHA-256 of the settings on which the sites agree.
        greeting: What the site has said of its images.
        fixed: The names of the tensors that no visit changes.
    """

    site: str
    sent: Tree
    due: int
    dry_run: DryRun
    optimizers: list[Optimizer]
    transfer: WeightTransfer
    sites: list[str]
    settings: str
    greeting: Tree
    fixed: Collection[str] = ()


def due_visit(baton: Tree, transfer: WeightTransfer) -> int:
    """The number of the visit that a baton, whose next batch is the site's, is sent out for."""
    record = transfer_state(baton, transfer.state_key)["record"]
    ended = record["visit"][0] + record["ended"] if record["visit"] else 0
    epoch = baton["loops"]["fit_loop"]["epoch_progress"]["total"]["processed"]
    return transfer.make_plan(transfer.itinerary(transfer.sites)).due(epoch, ended)


def check_update(asked: Asked, answer: Any) -> tuple[Tree, list[Entry]]:
    """Check what a site gave back for what it was asked.

    Returns:
        The next baton, and the lines of the ledger. All that does not depend on the site's images is the server's own.

    Raises:
        InputError: If it is not what can have become of that baton at that site.
    """
    try:
        return _checked(asked, answer)
    except InputError as error:
        raise refused(asked.site, error) from None
    except MALFORMED as error:
        raise refused(asked.site, f"it has another form ({error!r})") from None


def _checked(asked: Asked, answer: Tree) -> tuple[Tree, list[Entry]]:
    if answer.keys() != {"baton", "entries"} or not isinstance(answer["baton"], dict):
        raise InputError("it has another form: no baton and lines")
    baton, key, expected = answer["baton"], asked.transfer.state_key, asked.dry_run.baton
    if (baton.keys() ^ asked.sent.keys()) - {SCALE} or baton["callbacks"].keys() != asked.sent["callbacks"].keys():
        raise InputError(f"it has {', '.join(sorted(baton))}, the baton {', '.join(sorted(asked.sent))}")
    weights = check_received_weights(baton["state_dict"], asked.sent["state_dict"])
    for name in asked.fixed:
        if not weights[name].equal(asked.sent["state_dict"][name]):
            raise InputError(f"the tensor {name!r} is not the one that it was sent, and no visit changes it")
    if SCALE in baton and not is_scale(baton[SCALE]):
        raise InputError("the scale of its gradients has another form")
    before, planned, after = (transfer_state(tree, key)["record"] for tree in (asked.sent, expected, baton))
    entries = [_line(line) for line in answer["entries"]]
    # What waits for the validation's metrics is to be a line, too.
    waiting = [_line(entry.line) for entry in [waiting_entry(after)] if entry]
    lines = [entry for entry in [waiting_entry(planned)] if entry]
    check_places(asked.sent, baton)
    _check_visits(asked, [*entries, *waiting], [*asked.dry_run.entries, *lines], len(entries))
    progress = check_progress(baton, asked.sent, expected, asked.dry_run.exact)
    account = _account(asked, baton, [*entries, *waiting])
    _check_hand_offs(asked.sent, baton, before, after, [*entries, *waiting])
    _check_chain(before, after, entries)
    _check_images(asked, before, after, [*entries, *waiting])
    following = {
        **{name: baton[name] for name in (SCALE,) if name in baton},
        **expected,
        **progress,
        "state_dict": weights,
        "optimizer_states": _optimizers(asked, baton, progress["global_step"]),
        "lr_schedulers": check_schedules(baton["lr_schedulers"], expected["lr_schedulers"], asked.dry_run.exact),
        "callbacks": {**check_callbacks(baton["callbacks"], asked.sent["callbacks"], key), key: account},
    }
    return following, entries


def _check_images(asked: Asked, before: VisitAccount, after: VisitAccount, visits: list[Entry]) -> None:
    """Compare the number of images, by which a mean is weighted, with what the site has greeted with."""
    if not asked.transfer.itinerary(asked.sites).merges:
        return
    under_way = [after["images"]] if _under_way(after) else []
    images = sum(under_way, sum(entry.images for entry in visits)) - (before["images"] if _under_way(before) else 0)
    loops = (tree["loops"]["fit_loop"] for tree in (asked.sent, asked.dry_run.baton))
    begun, ended = (loop["epoch_loop.batch_progress"]["total"]["processed"] for loop in loops)
    most = most_images(asked.greeting, ended - begun)
    if not 0 <= images <= most:
        raise InputError(
            f"it says that it has trained on {images} records, and {most} are the most in {ended - begun} batches of"
            f" the {asked.greeting['images']} records that it has greeted with"
        )


def _line(line: Any) -> Entry:
    if not isinstance(line, str):
        raise InputError("it has another form: a line of it is not text")
    return Entry.parse(line)


def _optimizers(asked: Asked, baton: Tree, step: int) -> list[Tree]:
    found, expected = baton["optimizer_states"], asked.dry_run.baton["optimizer_states"]
    groups = check_groups(found, expected, asked.optimizers, asked.dry_run.exact)
    if asked.transfer.optimizer_state == "carry":
        check_states(found, asked.sent["optimizer_states"], asked.optimizers, step - asked.sent["global_step"])
    elif any(state["state"] != {} for state in found):
        raise InputError("it has an optimizer's state, which stays at its site in this run")
    return [{"state": state["state"], "param_groups": own} for state, own in zip(found, groups, strict=True)]


def _account(asked: Asked, baton: Tree, lines: list[Entry]) -> Tree:
    """Compare the transfer's account with that of the dry run, and give the one to continue with."""
    key = asked.transfer.state_key
    found, expected = transfer_state(baton, key), transfer_state(asked.dry_run.baton, key)
    record, planned = found["record"], expected["record"]
    if found.keys() != expected.keys() or record.keys() != planned.keys():
        raise InputError("its account of the visit has another form")
    apart = {"record", "divergence", "merging"}
    if not same(_without(found, apart), _without(expected, apart)):
        raise InputError("its account of the heuristic is not that of the partial fit")
    loose = set() if asked.dry_run.exact else {"first_step"}
    if not same(_without(record, _OF_SITE | loose), _without(planned, _OF_SITE | loose)):
        usual = _without(planned, _OF_SITE | loose)
        difference = {
            name: value for name, value in sorted(record.items()) if name in usual and not same(value, usual[name])
        }
        raise InputError(f"its account of the visit has another form: {difference}"[:500])
    _check_measured(record, planned, baton["global_step"], asked.dry_run.exact)
    taken = _without(record, record.keys() - _OF_SITE - loose)
    divergence = _divergence(asked, found["divergence"], expected["divergence"], record["ended"])
    merging = {"merging": _merging(found, expected, lines)} if "merging" in expected else {}
    return {**expected, **merging, "record": {**planned, **taken}, "divergence": divergence}


def _merging(found: TransferState, expected: TransferState, lines: list[Entry]) -> Tree:
    """What the server is to merge is what the visit's line says of it; all else of a round is the dry run's."""
    merging, planned = found["merging"], expected["merging"]
    ended = planned["ended"] and (lines[-1].visit, lines[-1].outcome, lines[-1].images, lines[-1].sha256_out)
    if not same(merging, {**planned, "ended": ended}):
        raise InputError("its account of the round is not that of the partial fit")
    return {**planned, "ended": ended}


def _without(tree: Mapping[str, Any], names: set[str]) -> Tree:
    return {name: value for name, value in tree.items() if name not in names}


def _check_measured(record: VisitAccount, planned: VisitAccount, step: int, exact: bool) -> None:
    counts = all(map(is_count, (record["images"], record["first_step"]))) and record["first_step"] <= step
    # Of a visit in which no step was made there may be no rate.
    rates, usual = record["rates"], planned["rates"]
    fits = same(rates, usual, CLOSE) if exact else alike(rates, usual)
    if not counts or not fits or not _is_time(record["seconds"]):
        raise InputError("its account of the visit has another form: images, steps, rates or seconds")


def _is_time(seconds: Any) -> bool:
    return type(seconds) is float and is_number(seconds) and seconds >= 0


def _divergence(asked: Asked, found: DivergenceState, expected: DivergenceState, ended: bool) -> DivergenceState:
    """Whether the rest of a visit is skipped is the site's to say; with what it began is for itself alone."""
    if found.keys() != expected.keys() or type(found["skipping"]) is not bool:
        raise InputError("its account of the visit has another form: whether it diverged")
    if ended and found["skipping"]:
        raise InputError("its visit has ended, and the next one would pass without training")
    if found["skipping"] and asked.transfer.on_divergence != "skip":
        raise InputError("it skips the rest of its visit, and a visit that diverges ends this run")
    came_in, usual = found["came_in"], expected["came_in"]
    if (came_in is None) is not (usual is None) or (came_in and usual and came_in.keys() != usual.keys()):
        raise InputError("its account of the visit has another form: what came in")
    if came_in and usual:  # without their tensors, which have stayed there
        fits = same(came_in["weights"], usual["weights"]) and is_plain(came_in["optimizers"], is_number)
        if not fits:
            raise InputError("its account of the visit has another form: what came in")
    return expected if ended else found


def _under_way(record: VisitAccount) -> bool:
    return record["visit"] is not None and not record["ended"]


def _check_visits(asked: Asked, found: list[Entry], expected: list[Entry], written: int) -> None:
    """Compare the lines of visits with those of the dry run."""
    numbers = [entry.visit for entry in found]
    if numbers != [entry.visit for entry in expected]:
        told = "there is no line of it" if not numbers else f"it tells of visits {numbers}"
        raise InputError(f"{told}; visit {asked.due} was due, and {len(expected)} of its lines")
    if written != len(asked.dry_run.entries):
        raise InputError(f"it has {written} lines that are to be written, and {len(asked.dry_run.entries)} are due")
    for entry, planned in zip(found, expected, strict=True):
        _check_line(asked, entry, planned)


def _check_line(asked: Asked, entry: Entry, planned: Entry) -> None:
    known = [name for name in Entry.__slots__ if name not in _MEASURED | _RATES]
    if not asked.dry_run.exact:
        known.remove("steps")
    for name in known:
        was, due = getattr(entry, name), getattr(planned, name)
        if was != due:
            raise InputError(f"its visit {entry.visit} has {name} {was!r}, where {due!r} was due"[:500])
    if entry.outcome not in _OUTCOMES or (entry.outcome == "skipped" and asked.transfer.on_divergence != "skip"):
        raise InputError(f"its visit {entry.visit} was {entry.outcome!r}, with {entry.steps} steps")
    if entry.outcome == "skipped" and entry.sha256_in != entry.sha256_out:
        raise InputError(f"its visit {entry.visit} was skipped, and ended with other weights")
    if not all(map(is_count, (entry.images, entry.steps))) or not _is_time(entry.seconds):
        raise InputError(f"its visit {entry.visit} has {entry.images} records in {entry.steps} steps")
    if entry.settings != asked.settings:
        raise InputError(f"its visit {entry.visit} was made with other settings than those that were agreed on")
    rates, usual = ([list(map(float, getattr(each, name))) for name in sorted(_RATES)] for each in (entry, planned))
    if not (same(rates, usual, CLOSE) if asked.dry_run.exact else alike(rates, usual)):
        raise InputError(f"its visit {entry.visit} has the learning rates {rates}, the run {usual}"[:500])
    if entry.versions.keys() != planned.versions.keys() or not all(map(is_name, entry.versions.values())):
        raise InputError(f"its visit {entry.visit} has versions of other programs")
    check_metrics(entry.metrics, asked.site, asked.sites)
    if not all(map(is_hash, (entry.sha256_in, entry.sha256_out, entry.previous))):
        raise InputError(f"its visit {entry.visit} has no hashes")


def _check_hand_offs(sent: Tree, baton: Tree, before: VisitAccount, after: VisitAccount, visits: list[Entry]) -> None:
    came_in = weights = before["sha256_in"] if _under_way(before) else fingerprint(sent["state_dict"])[0]
    for entry in visits:
        if entry.sha256_in != weights:
            raise InputError(
                f"its visit {entry.visit} began with the weights {entry.sha256_in[:12]}; it was sent {weights[:12]}"
            )
        came_in, weights = weights, entry.sha256_out
    went_out = fingerprint(baton["state_dict"])[0]
    if after["ended"] and weights != went_out:
        raise InputError(f"it has the weights {went_out[:12]}, but says that they are {weights[:12]}")
    # In a visit, what went out is of the one before.
    expected = (came_in if after["ended"] else weights, weights if visits else before["sha256_out"])
    if (after["sha256_in"], after["sha256_out"]) != expected:
        raise InputError("its account of the visit has other weights than its lines")


def _check_chain(before: VisitAccount, after: VisitAccount, lines: list[Entry]) -> None:
    head = before["head"]
    for entry in lines:
        if entry.previous != head:
            raise InputError(f"its line of visit {entry.visit} does not follow the ledger's last")
        head = entry.sha256
    if after["head"] != head:
        raise InputError("its ledger has another head")
