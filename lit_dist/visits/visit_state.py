"""What the state of a VisitCallback may hold, and the form that it has: at home, and at both ends of a wire."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite
from lit_dist.utils.plain_bounds import LARGEST, LONGEST_NAME, is_number, is_short


def own_state(tree: Any, place: str, shared: Collection[int] = (), travels: bool = True) -> Any:
    """State as it can be kept: what it holds is checked, and no tensor has a graph or its values elsewhere.

    Args:
        tree: The state, or a part of it.
        place: Where it stands.
        shared: The storages that others write to, by their pointers; a tensor in one is copied.
        travels: Whether it crosses transfers.

    Raises:
        InputError: If it holds anything but dictionaries by text, dense tensors, numbers and text; or, where it
            travels, what is not finite or too large.
    """
    if type(tree) is dict and all(type(name) is str for name in tree):
        return {name: own_state(value, f"{place}/{name}", shared, travels) for name, value in tree.items()}
    if isinstance(tree, Tensor) and tree.layout == torch.strided and not tree.is_meta and not tree.is_quantized:
        if travels and not_finite({place: tree}) is not None:
            raise InputError(f"{place} has values that are NaN or infinite")
        kept = tree.detach()
        return kept.clone() if kept.untyped_storage().data_ptr() in shared else kept
    plain = "/" in place and (tree is None or type(tree) in (bool, int, float, str))
    if plain and (not travels or is_number(tree) or is_short(tree)):
        return tree
    raise InputError(
        f"{place} is {'too large' if plain else f'of type {type(tree).__name__}'}: a VisitCallback keeps dictionaries"
        " by text, of dense tensors, numbers and text (what travels: finite tensors, numbers up to"
        f" {LARGEST:g}, and text of {LONGEST_NAME} letters)"
    )


def form(tree: Any, place: str = "") -> dict[str, str]:
    """The places of nested state, and what is at each."""
    if isinstance(tree, Mapping):
        inner = (form(value, f"{place}/{name}" if place else str(name)) for name, value in tree.items())
        return {place: "a dictionary"} | {each: kind for part in inner for each, kind in part.items()}
    kind = f"{tree.dtype} {tuple(tree.shape)}" if isinstance(tree, Tensor) else f"a value of type {type(tree).__name__}"
    return {place: kind}


def difference(found: Mapping[str, str], expected: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The first place at which two forms differ, what is found there, and what is expected; None if they agree."""
    for place in sorted(found.keys() | expected.keys()):
        kinds = found.get(place, "nothing"), expected.get(place, "nothing")
        if kinds[0] != kinds[1]:
            return place, *kinds
    return None


def state_bytes(tree: Any) -> int:
    """The bytes of the tensors in nested state."""
    if isinstance(tree, Mapping):
        return sum(map(state_bytes, tree.values()))
    return tree.nbytes if isinstance(tree, Tensor) else 0
