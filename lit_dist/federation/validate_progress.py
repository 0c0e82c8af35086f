"""What must hold of the progress of a fit in the baton that a site gives back."""

from collections.abc import Mapping
from typing import Any

from lit_dist.federation.wire import Tree
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_bounds import alike, is_count, same

_OF_STEPS = ("epoch_loop.manual_optimization.optim_step_progress", "epoch_loop.scheduler_progress")
"""What only the module knows where it makes its own steps, or where a schedule waits for a metric of training."""


def check_progress(baton: Tree, sent: Tree, expected: Tree, exact: bool) -> Tree:
    """Compare the progress with that of the dry run, and give the one to continue with.

    Args:
        baton: The baton that came back.
        sent: The one that the site was sent.
        expected: That of the dry run.
        exact: Whether nothing but Lightning and the schedules counts steps.

    Raises:
        InputError: If a site cannot have come to it.
    """
    if baton["pytorch-lightning_version"] != sent["pytorch-lightning_version"]:
        raise InputError("it is of another version of Lightning")
    found, planned = baton["loops"]["fit_loop"], dict(expected["loops"]["fit_loop"])
    for name in () if exact else _OF_STEPS:
        if not _counts_on(found[name], planned[name], sent["loops"]["fit_loop"][name]):
            raise InputError("its progress has another form: steps that no partial fit has made")
        planned[name] = found[name]
    if not same(found, planned):
        raise InputError(f"its progress has another form than the partial fit: {_first_difference(found, planned)}")
    loops = {**expected["loops"], "fit_loop": planned}
    if not is_count(baton["epoch"]) or baton["epoch"] != expected["epoch"] or not is_count(baton["global_step"]):
        raise InputError(f"it is at epoch {baton['epoch']!r}, and the partial fit ends in epoch {expected['epoch']}")
    if baton["global_step"] != _steps(loops):
        raise InputError(f"it is at step {baton['global_step']!r}, and its progress at step {_steps(loops)}")
    return {"loops": loops, "global_step": baton["global_step"]}


def check_places(sent: Tree, baton: Tree) -> None:
    """Raise an ``InputError`` of its own for a baton of an earlier place: it may be an old answer."""
    epochs = [tree["loops"]["fit_loop"]["epoch_progress"]["total"]["processed"] for tree in (sent, baton)]
    steps = [_steps(tree["loops"]) for tree in (sent, baton)]
    for name, (was, now) in {"epoch": epochs, "step": steps}.items():
        if not was <= now:
            raise InputError(f"it goes back from {name} {was} to {now}")


def _steps(loops: Tree) -> int:
    loop = loops["fit_loop"]
    automatic = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    by_hand = loop["epoch_loop.manual_optimization.optim_step_progress"]
    steps: int = automatic["total"]["completed"] + by_hand["total"]["completed"]
    return steps


def _counts_on(found: Any, planned: Tree, sent: Tree) -> bool:
    """Whether counts have the form of the planned ones, and do not go back."""
    if not alike(found, planned):
        return False
    return all(found["total"][name] >= was for name, was in sent["total"].items())


def _first_difference(found: Any, planned: Any, place: str = "") -> str:
    if isinstance(found, Mapping) and isinstance(planned, Mapping) and found.keys() == planned.keys():
        name = next(name for name in found if not same(found[name], planned[name]))
        return _first_difference(found[name], planned[name], f"{place}/{name}")
    return f"{place.rpartition('/')[2]} is {found!r}, where {planned!r} was expected"[:300]
