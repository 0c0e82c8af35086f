"""What must hold of weights that a site gives back."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from lit_dist.checkpoints.baton import check_weights
from lit_dist.federation.wire import Tree
from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite
from lit_dist.utils.plain_bounds import alike
from lit_dist.visits.visit_state import difference, form, own_state

_EXACT = 2**53  # more than any count


def check_received_weights(found: Any, sent: Tree) -> Tree:
    """Check the weights and buffers that were found in a message.

    Returns:
        They, in the order of those that were sent, and with the versions that these have for Lightning.

    Raises:
        InputError: If they are not finite ones of the same names, dtypes and shapes, or a buffer is negative that is
            a count or a variance.
    """
    if not isinstance(found, dict) or not found.keys() == sent.keys():
        raise InputError(f"it has other tensors than the {len(sent)} that it was sent")
    check_weights(found, sent, "it")
    for name, value in found.items():
        if not isinstance(value, Tensor):
            if isinstance(sent[name], Tensor) or not alike(value, sent[name]):
                raise InputError(f"its {name!r} has another form")
        elif value.layout != torch.strided or value.is_meta:
            raise InputError(f"the tensor {name!r} has no values")
        elif not _fits(name, value, sent[name]):
            raise InputError(f"the tensor {name!r} has values that no count or variance has")
    name = not_finite(found)
    if name is not None:
        raise InputError(f"the tensor {name!r} has values that are NaN or infinite")
    weights = OrderedDict((name, found[name]) for name in sent)
    weights._metadata = getattr(sent, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    return weights


def _fits(name: str, value: Tensor, sent: Tensor) -> bool:
    if not value.numel() or value.dtype == torch.bool:
        return True
    if value.is_floating_point():
        return not name.endswith("running_var") or bool((value >= 0).all())
    if value.is_complex():
        return True
    least, most = value.min().item(), value.max().item()
    return most <= max(_EXACT, sent.max().item()) and least >= min(0, sent.min().item())


def check_callbacks(found: Tree, expected: Tree, transfer: str) -> Tree:
    """Check what travels of the callbacks that take part in visits.

    Args:
        found: What came, by the callbacks' keys.
        expected: The same in the form that it has throughout the run.
        transfer: The key of the transfer callback, which is checked elsewhere.

    Returns:
        The states.

    Raises:
        InputError: If names, shapes, dtypes or types differ, a number is not finite, or something is there that stays.
    """
    for name in expected.keys() - {transfer}:
        state, usual = found[name], expected[name]
        if state.keys() != usual.keys() or any(state[each] != usual[each] for each in usual.keys() - {"travelling"}):
            raise InputError(f"it has another form: what travels of {name}")
        own_state(state["travelling"], f"{name}.travelling")
        if apart := difference(form(state["travelling"]), form(usual["travelling"])):
            place, has, due = apart
            raise InputError(f"{name}.travelling has at {place!r} {has}, where {due} is due"[:500])
    return {name: found[name] for name in expected.keys() - {transfer}}
