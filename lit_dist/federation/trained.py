"""What must hold of the baton that a site gives back: that it can have become of the one that it was sent."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.amp import GradScaler

from lit_dist.baton import fingerprint, not_finite
from lit_dist.callbacks import WeightTransfer
from lit_dist.epoch_plan import EpochPlan
from lit_dist.errors import InputError
from lit_dist.federation.answers import check_finite, is_count, refused
from lit_dist.federation.parcel import SCALE, Tree
from lit_dist.itinerary import Itinerary, Visit
from lit_dist.ledger import Entry

_OUTCOMES = ("trained", "skipped")  # all else is for the server to find


def due_visit(baton: Tree, transfer: WeightTransfer) -> int:
    """The number of the visit that a baton is sent out for.

    Args:
        baton: The baton, whose next batch is the site's.
        transfer: The run's transfer callback, whose fit has begun.
    """
    record = baton["callbacks"][transfer.state_key]["record"]
    ended = record["visit"][0] + record["ended"] if record["visit"] else 0
    return transfer.make_plan(transfer.itinerary(transfer.sites)).due(_place(baton)[0], ended)


def check_trained(site: str, sent: Tree, due: int, answer: Any, transfer: WeightTransfer) -> tuple[Tree, list[Entry]]:
    """Check what a site gave back for a baton.

    Args:
        site: The site's name.
        sent: The baton that it was sent.
        due: The number of the visit that it was sent for.
        answer: What it gave back.
        transfer: The run's transfer callback, whose fit has begun.

    Returns:
        The next baton, and the lines of the ledger.

    Raises:
        InputError: If it is not what can have become of that baton at that site.
    """
    try:
        return _trained(site, sent, due, answer, transfer)
    except InputError as error:
        raise refused(site, error) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise refused(site, f"it has another form ({error!r})") from None


def _trained(site: str, sent: Tree, due: int, answer: Tree, transfer: WeightTransfer) -> tuple[Tree, list[Entry]]:
    baton, key = answer["baton"], transfer.state_key
    if (baton.keys() ^ sent.keys()) - {SCALE} or baton["callbacks"].keys() != {key}:
        raise InputError(f"it has {', '.join(sorted(baton))}, the baton {', '.join(sorted(sent))}")
    check_finite(baton["state_dict"], sent["state_dict"])
    _check_optimizers(sent, baton)
    _check_scale(baton.get(SCALE))
    before, after = (tree["callbacks"][key]["record"] for tree in (sent, baton))
    _check_form(before, after, baton["global_step"])
    if after["ended"] and baton["callbacks"][key]["divergence"]["skipping"] is not False:
        raise InputError("its visit has ended, and the next one would pass without training")
    entries = [Entry.parse(line) for line in answer["entries"]]
    # What waits for the validation's metrics is to be a line, too.
    waiting = [Entry.parse(Entry(**after["waiting"]).line)] if after["waiting"] else []
    plan = transfer.make_plan(transfer.itinerary(transfer.sites))
    _check_visits(site, due, before, after, [*entries, *waiting], plan.itinerary)
    _check_progress(sent, baton)
    _check_epoch(after, _place(baton)[0], plan)
    _check_hand_offs(sent, baton, before, after, [*entries, *waiting])
    _check_chain(before, after, entries)
    return baton, entries


def _check_progress(sent: Tree, baton: Tree) -> None:
    if baton["pytorch-lightning_version"] != sent["pytorch-lightning_version"]:
        raise InputError("it is of another version of Lightning")
    if not _alike(baton["loops"], sent["loops"]):
        raise InputError("its progress has another form")
    places = [_place(tree) for tree in (sent, baton)]
    for name, was, now in zip(("epoch", "step"), *places, strict=True):
        if not was <= now:
            raise InputError(f"it goes back from {name} {was} to {now}")
    if not is_count(baton["global_step"]) or baton["global_step"] != places[1][1]:
        raise InputError(f"it is at step {baton['global_step']!r}, and its progress at step {places[1][1]}")


def _place(tree: Tree) -> tuple[int, int]:
    """The epoch, and the optimizer step, from which Lightning goes on."""
    loop = tree["loops"]["fit_loop"]
    automatic = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    by_hand = loop["epoch_loop.manual_optimization.optim_step_progress"]
    return loop["epoch_progress"]["total"]["processed"], sum(way["total"]["completed"] for way in (automatic, by_hand))


def _alike(found: Any, sent: Any) -> bool:
    """Whether nested counts have the same names."""
    if type(found) is not type(sent):
        return False
    if isinstance(found, dict):
        return found.keys() == sent.keys() and all(_alike(value, sent[name]) for name, value in found.items())
    if isinstance(found, list | tuple):
        return len(found) == len(sent) and all(map(_alike, found, sent))
    return type(found) is not int or is_count(found)


def _check_scale(scale: Mapping[str, Any] | None) -> None:
    if scale is None:  # as with any precision but 16-mixed
        return
    fits = scale.keys() == GradScaler("cpu").state_dict().keys()
    if not fits or not all(type(value) in (int, float) and 0 <= value < math.inf for value in scale.values()):
        raise InputError("the scale of its gradients has another form")


def _check_form(before: Mapping[str, Any], after: Mapping[str, Any], step: int) -> None:
    """Check the values of a visit's account that are compared with nothing."""
    start, end = after["rates"]
    numbers = [after["seconds"], *start, *end]
    fits = after.keys() == before.keys() and type(after["ended"]) is bool
    fits = fits and all(map(is_count, (after["images"], after["first_step"], *after["visit"][:2])))
    fits = fits and after["first_step"] <= step
    if not fits or not all(isinstance(number, float) and math.isfinite(number) for number in numbers):
        raise InputError("its account of the visit has another form")


def _under_way(record: Mapping[str, Any]) -> bool:
    return record["visit"] is not None and not record["ended"]


def _check_visits(
    site: str, due: int, before: Mapping[str, Any], after: Mapping[str, Any], visits: list[Entry], itinerary: Itinerary
) -> None:
    numbers = [entry.visit for entry in visits]
    if numbers != list(range(due, due + len(visits))):
        raise InputError(f"it tells of visits {numbers}, and visit {due} was asked for")
    last = Visit(*after["visit"])
    if last.number != due + len(visits) - (1 if after["ended"] and visits else 0):
        raise InputError(f"it is of visit {last.number}, and visit {due} was asked for")
    if after["ended"] and not visits:
        raise InputError(f"its visit {last.number} has ended, and there is no line of it")
    if after["waiting"] and not after["ended"]:
        raise InputError(f"there is a line of its visit {last.number}, which has not ended")
    for visit in [*(Visit(entry.visit, entry.cycle, entry.site) for entry in visits), last]:
        if visit != itinerary.visit(visit.number) or visit.site != site:
            raise InputError(f"it tells of a visit {visit.number} at {visit.site!r}, in cycle {visit.cycle}")
    if any(run != before["run"] for run in [after["run"], *(entry.run for entry in visits)]):
        raise InputError("it is of another run")
    for entry in visits:
        if entry.outcome not in _OUTCOMES or not all(map(is_count, (entry.images, entry.steps))) or entry.bytes < 0:
            raise InputError(f"its visit {entry.visit} was {entry.outcome!r}, with {entry.steps} steps")


def _check_epoch(after: Mapping[str, Any], epoch: int, plan: EpochPlan) -> None:
    number = after["visit"][0]
    if not {number, number + after["ended"]} & {stretch.visit for stretch in plan.epoch(epoch)}:
        raise InputError(f"it is at epoch {epoch}, which has no part of visit {number}")


def _check_hand_offs(
    sent: Tree, baton: Tree, before: Mapping[str, Any], after: Mapping[str, Any], visits: list[Entry]
) -> None:
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


def _check_chain(before: Mapping[str, Any], after: Mapping[str, Any], lines: list[Entry]) -> None:
    head = before["head"]
    for entry in lines:
        if entry.previous != head:
            raise InputError(f"its line of visit {entry.visit} does not follow the ledger's last")
        head = entry.sha256
    if after["head"] != head:
        raise InputError("its ledger has another head")


def _check_optimizers(sent: Tree, baton: Tree) -> None:
    groups = [[state["param_groups"] for state in tree["optimizer_states"]] for tree in (sent, baton)]
    if [[group["params"] for group in each] for each in groups[0]] != [
        [g["params"] for g in each] for each in groups[1]
    ]:
        raise InputError("its optimizers have other parameters")
    for rate in [group["lr"] for each in groups[1] for group in each]:
        if not isinstance(rate, int | float | Tensor) or not math.isfinite(rate):
            raise InputError(f"its optimizers have the learning rate {rate!r}")
    weights = list(sent["state_dict"].values())
    shapes = {tuple(tensor.shape) for tensor in weights} | {()}
    for state in baton["optimizer_states"]:
        for values in state["state"].values():
            for name, value in values.items():
                if hasattr(value, "shape") and tuple(value.shape) not in shapes:
                    raise InputError(f"the optimizer's {name!r} has the shape {tuple(value.shape)}")
                if not_finite({name: value}):
                    raise InputError(f"the optimizer's {name!r} has values that are NaN or infinite")
