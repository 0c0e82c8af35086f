"""What of a checkpoint travels with the model, and what stays where it is."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor
from torch.amp import GradScaler

from lit_dist.callbacks import WeightTransfer
from lit_dist.callbacks.baton_writer import baton_of
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.federation.wire import Tree
from lit_dist.provenance.line import FIRST
from lit_dist.provenance.visit_account import transfer_state
from lit_dist.utils.plain_bounds import is_number
from lit_dist.visits.visit_callback import visit_callbacks

SCALE = MixedPrecision.__qualname__
"""Where Lightning has the scale of the gradients with ``16-mixed``: a site with a GPU has one, the server has none."""


def is_scale(scale: Any) -> bool:
    """Whether a value can be the scale of the gradients, which only ``16-mixed`` has."""
    usual = GradScaler("cpu").state_dict()
    if scale.keys() != usual.keys() or not all(is_number(value) and value >= 0 for value in scale.values()):
        return False
    whole = all(type(scale[name]) is int for name in ("growth_interval", "_growth_tracker"))
    return whole and all(0 < scale[name] < 2.0**64 for name in ("scale", "growth_factor", "backoff_factor"))


def split(checkpoint: Mapping[str, Any], trainer: Trainer, transfer: WeightTransfer) -> tuple[Tree, Tree]:
    """Divide a trainer's checkpoint into the baton and what stays.

    Returns:
        The baton, with the transfer's account without its tensors; and these, the optimizer's state, and what stays of
        other callbacks, as checkpoints have them.
    """
    key = transfer.state_key
    baton = baton_of(checkpoint, trainer, key, transfer.optimizer_state == "carry")
    baton["callbacks"][key] = _of_round(_without_tensors(baton["callbacks"][key]))
    states = [state["state"] for state in checkpoint["optimizer_states"]]
    staying = {each.state_key: {**each.state_dict(), "travelling": {}} for each in visit_callbacks(trainer)}
    own = {"account": transfer_state(checkpoint, key), "optimizer_states": states, "visit_callbacks": staying}
    return baton, own


def join(baton: Mapping[str, Any], own: Mapping[str, Any], transfer: WeightTransfer) -> Tree:
    """Put a baton that came back into the checkpoint that it was taken from, the server's own."""
    key = transfer.state_key
    account = with_tensors(transfer_state(baton, key), transfer_state(own, key))
    if "merging" in account:
        kept = {name: transfer_state(own, key)["merging"][name] for name in OF_SERVER}  # type: ignore[literal-required]
        account = {**account, "merging": {**account["merging"], **kept}}
    return {**own, **baton, "callbacks": {**own["callbacks"], **baton["callbacks"], key: account}}


OF_SERVER: Tree = {"base": None, "sums": (None, None), "total": 0.0, "parents": [], "waiting": None}
"""What of the merge of a round no site needs to know, and what stands there instead."""


def _of_round(account: Tree) -> Tree:
    """A transfer's account without what other visits of the round have come to."""
    return {**account, "merging": {**account["merging"], **OF_SERVER}} if "merging" in account else account


def unchained(state: Mapping[str, Any], transfer: WeightTransfer) -> Tree:
    """A state in which a visit is due that begins with a merge, without what the visit before it has come to.

    Sites whose visits begin alike are then asked alike, whoever is first; the server chains their lines.
    """
    key = transfer.state_key
    account = transfer_state(state, key)
    nothing: Tree = {"head": FIRST, "waiting": None, "images": 0, "seconds": 0.0, "rates": ([], []), "sha256_in": ""}
    record = {**account["record"], **nothing}
    return {**state, "callbacks": {**state["callbacks"], key: {**account, "record": record}}}


def after_visit(ended: Mapping[str, Any], state: Mapping[str, Any], transfer: WeightTransfer, from_merge: bool) -> Tree:
    """The state after a visit of a round that was not the last.

    Args:
        ended: The baton that a site, or a dry run, has ended the visit with.
        state: The state that the visit was asked from.
        transfer: The run's transfer callback.
        from_merge: Whether the next visit begins with the last merge.
    """
    key = transfer.state_key
    following = join(ended, state, transfer)
    account = transfer_state(following, key)
    merging = account["merging"]
    visit, images, base = merging["ended"], merging["images"], merging["base"]
    assert visit is not None
    assert base is not None
    images += visit[2] if visit[1] == "trained" else 0
    merging = {**merging, "ended": None, "branch": not from_merge, "images": 0 if from_merge else images}
    callbacks = {**following["callbacks"], key: {**account, "merging": merging}}
    if from_merge:
        travelling = {name: {**callbacks[name], "travelling": each} for name, each in base["travelling"].items()}
        record = {**account["record"], "sha256_out": fingerprint(base["weights"])[0]}
        callbacks |= {**travelling, key: {**callbacks[key], "record": record}}
        following["state_dict"] = base["weights"]
    return unchained({**following, "callbacks": callbacks}, transfer)


def _without_tensors(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return None
    if isinstance(tree, dict):
        return {name: _without_tensors(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_without_tensors(value) for value in tree)
    return tree


def with_tensors(tree: Any, own: Any) -> Any:
    """Fill the places of the tensors that stayed.

    Example:
        >>> import torch
        >>> with_tensors({"best": None, "waited": 2}, {"best": torch.ones(1), "waited": 1})
        {'best': tensor([1.]), 'waited': 2}
    """
    if tree is None and isinstance(own, Tensor):
        return own
    if isinstance(tree, dict) and isinstance(own, dict):
        return {name: with_tensors(value, own.get(name)) for name, value in tree.items()}
    if isinstance(tree, list | tuple) and isinstance(own, list | tuple) and len(tree) == len(own):
        return type(tree)(with_tensors(*pair) for pair in zip(tree, own, strict=True))
    return tree
