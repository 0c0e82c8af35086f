"""Merging: what becomes of the visits of a round, all of which begin with the same weights."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor

from lit_dist.provenance.entry import Entry, Outcome
from lit_dist.provenance.merge import Weighting
from lit_dist.provenance.visit_account import MergingState
from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite
from lit_dist.visits.itinerary import Itinerary, Visit
from lit_dist.visits.running_mean import RunningMean
from lit_dist.visits.visit_callback import visit_callbacks

Tree = dict[str, Any]
CUT_SHORT: Outcome = "cut short"


class Merging:
    """Keeps what the visits of a round begin with, and a running mean of what they end with.

    Between two visits the module has what the next one begins with, so that a validation or a checkpoint in between
    sees no site's own weights. The schedules are put back when the next visit begins, since some step after a visit's
    end; they continue from where the round's last visit has left them. What of a module has no mean, such as a counter,
    is that of the round's last visit that was trained.

    Args:
        weighting: What a visit counts: the ``"images"`` that it was trained on, or ``"equal"``.
    """

    def __init__(self, weighting: Weighting) -> None:
        self.weighting = weighting
        self._base: Tree | None = None
        self._schedules: Tree | None = None
        self._ended: tuple[int, str, int, str] | None = None
        self._unfinished: Tree | None = None  # of a visit that the end of a fit has cut short
        self._begin_round()

    def _begin_round(self) -> None:
        self._means = RunningMean(), RunningMean("what travels")
        self._parents: list[tuple[int, str, float]] = []
        self._branch, self._images = False, 0

    def begin_fit(self, trainer: Trainer, at_site: bool) -> None:
        """Begin a run, or resume one; a site of a federation has nothing to merge, and keeps nothing for it."""
        if self._base is None and not at_site:
            self._base = _state(trainer)
        device = trainer.strategy.root_device
        self._base = move_data_to_device(self._base, device)
        for mean in self._means:
            mean.sums = move_data_to_device(mean.sums, device)
        if self._unfinished is not None:
            _put_state(trainer, self._unfinished)
            self._unfinished = None

    def begin_visit(self, trainer: Trainer, visit: Visit, itinerary: Itinerary) -> None:
        """Let the schedules continue from what the visit begins with, before its learning rate is noted."""
        if not itinerary.from_merge(visit.number):
            return
        if self._schedules is None:
            self._schedules = _schedules(trainer)
        else:
            _put_schedules(trainer, self._schedules)
        self._branch, self._images = True, 0

    def end_visit(self, entry: Entry) -> None:
        """Take note of a visit that has ended, by its line."""
        self._ended = (entry.visit, entry.outcome, entry.images, entry.sha256_out)

    def resume_visit(self, visit: Visit) -> bool:
        """Whether a visit was cut short by the end of a fit, and this is another one, so that it stays so."""
        if self._ended is None or self._ended[0] != visit.number:
            return self._ended is not None
        self._images += self._ended[2]
        self._ended = None
        return False

    def take_up(self, trainer: Trainer, itinerary: Itinerary) -> list[tuple[int, str, float]] | None:
        """Take the visit that has ended into account, and give the module what the next begins with.

        Returns:
            The parents of the merge that ends the round, which the module then has; None if none does.
        """
        assert self._ended is not None
        (number, outcome, images, sha256), self._ended = self._ended, None
        self._images += images if outcome in ("trained", CUT_SHORT) else 0
        merges = itinerary.merges_after(number)
        if not (merges or itinerary.from_merge(number + 1)):
            return None
        if not self._branch:  # a chain's last visit, after which a round begins
            self._base = _state(trainer)
            return None
        if self._images:
            weight = float(self._images) if self.weighting == "images" else 1.0
            for mean, state in zip(self._means, _state(trainer, copied=False).values(), strict=True):
                mean.add(state, weight)
            self._parents.append((number, sha256, weight))
        self._branch, self._images = False, 0
        assert self._base is not None
        if not merges:
            _put_state(trainer, self._base)
            return None
        if self._parents:
            self._base = {
                name: mean.value(self._base[name]) for name, mean in zip(self._base, self._means, strict=True)
            }
        _put_state(trainer, self._base)
        parents = self._parents
        self._schedules = None
        self._begin_round()
        return parents

    def end_merge(self, trainer: Trainer) -> None:
        """Take the merge as it is after callbacks have seen it: what the next round's visits begin with."""
        self._base = _state(trainer)

    @property
    def pending(self) -> bool:
        """Whether a visit has ended that is to be taken into account; not one that may be resumed."""
        return self._ended is not None and self._ended[1] != CUT_SHORT

    @property
    def within_round(self) -> bool:
        """Whether there are visits that are not in a merge yet."""
        return self._branch or bool(self._parents)

    def leave(self, trainer: Trainer) -> None:
        """Leave a fit with the last merge, also where its end has cut a visit short, and what travels with it."""
        if self._branch and self._base:
            self._unfinished = self._unfinished or _state(trainer)  # a fit with nothing left to do has the merge
            _put_state(trainer, self._base)

    def state_dict(self) -> MergingState:
        """All of it, for a checkpoint."""
        return {
            "base": self._base,
            "schedules": self._schedules,
            "sums": (self._means[0].sums, self._means[1].sums),
            "total": self._means[0].total,
            "parents": self._parents,
            "branch": self._branch,
            "images": self._images,
            "ended": self._ended,
            "waiting": None,
        }

    def load_state_dict(self, state: MergingState) -> None:
        """Restore the state of a checkpoint."""
        self._unfinished = None
        self._base, self._schedules, self._ended = state["base"], state["schedules"], state["ended"]
        for mean, sums in zip(self._means, state["sums"], strict=True):
            mean.total, mean.sums = state["total"], sums
        self._parents, self._branch, self._images = list(state["parents"]), state["branch"], state["images"]


def merge_of(itinerary: Itinerary, cycle: int, visits: Sequence[int]) -> str:
    """The merge of some visits, for messages."""
    named = [f"visit {number} at {itinerary.site(number)!r}" for number in visits[:_FEW]]
    told = ", ".join([*named, *(["others"] if visits[_FEW:] else [])])
    return f"the merge that ends cycle {cycle}, of the weights of {told or 'no visit'}"


_FEW = 10  # visits that a message names


def check_merge(trainer: Trainer, itinerary: Itinerary, cycle: int, visits: Sequence[int]) -> None:
    """Raise ``InputError`` if the module, which has a merge of some visits, has a NaN or an infinity."""
    name = not_finite(trainer.lightning_module.state_dict())
    if name is not None:
        raise InputError(
            f"{merge_of(itinerary, cycle, visits)}, has come to a NaN or an infinity in {name!r}, though these weights"
            " were finite: lower the learning rate, or look at what changes the weights when a cycle ends"
        )


def _state(trainer: Trainer, copied: bool = True) -> Tree:
    """What a visit begins or ends with: the weights and buffers, and what travels beside them."""
    travelling = {each.state_key: each.travelling for each in visit_callbacks(trainer)}
    state = {"weights": dict(trainer.lightning_module.state_dict()), "travelling": travelling}
    return _copy(state) if copied else state


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _copy(value) for name, value in tree.items()}
    return tree.detach().clone() if isinstance(tree, Tensor) else copy.deepcopy(tree)


def _put_state(trainer: Trainer, state: Tree) -> None:
    put_weights(trainer.lightning_module, state["weights"])
    for each in visit_callbacks(trainer):
        each.travelling = _copy(state["travelling"][each.state_key])


def put_weights(module: LightningModule, weights: Tree) -> None:
    """Give a module weights and buffers, with the versions that its own have for torch."""
    own = module.state_dict()
    for name, value in own.items():
        if isinstance(value, Tensor) and value.shape != weights[name].shape:
            raise InputError(
                f"{name} has changed its shape in a visit, from {tuple(weights[name].shape)} to {tuple(value.shape)};"
                " what is merged must have one shape: give a queue its whole length from the beginning"
            )
        own[name] = weights[name]
    module.load_state_dict(own)


def _schedules(trainer: Trainer) -> Tree:
    """The state of the schedules, and the options of the optimizers, which they change."""
    groups = [
        [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
        for optimizer in trainer.optimizers
    ]
    state = {"schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs], "groups": groups}
    if _has_tensor(state):
        raise InputError("a learning rate or another option that is a tensor cannot be merged; give it as a number")
    return copy.deepcopy(state)


def _has_tensor(tree: Any) -> bool:
    if isinstance(tree, dict | list | tuple):
        return any(map(_has_tensor, tree.values() if isinstance(tree, dict) else tree))
    return isinstance(tree, torch.Tensor)


def _put_schedules(trainer: Trainer, state: Tree) -> None:
    state = copy.deepcopy(state)
    for config, saved in zip(trainer.lr_scheduler_configs, state["schedulers"], strict=True):
        config.scheduler.load_state_dict(saved)
    for optimizer, groups in zip(trainer.optimizers, state["groups"], strict=True):
        if len(groups) != len(optimizer.param_groups):
            raise InputError(
                f"the groups of parameters of {type(optimizer).__name__} have changed within a round of visits, which"
                " all begin alike; change them between rounds, or leave that to a chain of visits"
            )
        for group, saved in zip(optimizer.param_groups, groups, strict=True):
            group.update(saved)
