"""What must hold of the optimizers and schedules that a site gives back."""

import copy
import inspect
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lit_dist.federation.wire import Tree
from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite
from lit_dist.utils.plain_bounds import alike, is_name, is_number, item, same

CLOSE = 1e-9
"""How much the rates of two machines may differ, relative to their size."""

_SCHEDULED = ("lr", "momentum", "betas")
_OF_SCHEDULES = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "params")
_NOT_NEGATIVE = (
    *("exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "acc_delta", "sum"),
    *("row_var", "col_var", "variance"),
)


def check_groups(found: Any, expected: list[Tree], optimizers: Sequence[Optimizer], exact: bool) -> list[list[Tree]]:
    """Check the groups of parameters.

    Args:
        found: The optimizers' states that came back.
        expected: Those of the dry run.
        optimizers: The server's optimizers.
        exact: Whether the rates of the dry run are those of the site.

    Returns:
        Each optimizer's groups: of the dry run, but for what only training can know.

    Raises:
        InputError: If they differ in anything else.
    """
    if not isinstance(found, list) or len(found) != len(expected):
        raise InputError(f"it has other optimizers than the {len(expected)} of the run")
    result = []
    for state, wanted, optimizer in zip(found, expected, optimizers, strict=True):
        groups = state["param_groups"]
        if state.keys() != {"state", "param_groups"} or len(groups) != len(wanted["param_groups"]):
            raise InputError("its optimizers have other groups of parameters")
        pairs = zip(groups, wanted["param_groups"], strict=True)
        result.append([_group(group, planned, optimizer, exact) for group, planned in pairs])
    return result


def _group(found: Tree, expected: Tree, optimizer: Optimizer, exact: bool) -> Tree:
    of_torch = type(optimizer).__module__.startswith("torch.optim")
    arguments = inspect.signature(type(optimizer).__init__).parameters
    more = found.keys() - expected.keys()
    if expected.keys() - found.keys() or (more and of_torch) or len(more) > len(expected):
        raise InputError(f"its optimizers have the settings {', '.join(sorted(map(str, found)))[:200]}")
    if not same(found["params"], expected["params"]):
        raise InputError("its optimizers have other parameters")
    group = {}
    for name, value in found.items():
        planned = expected.get(name)
        may_vary = name in _SCHEDULED and not exact
        if name in more:
            fits = is_name(name) and (type(value) is bool or is_number(item(value)))
        elif may_vary or not (of_torch or name in arguments or name in (*_SCHEDULED, *_OF_SCHEDULES)):
            may_vary, fits = True, alike(value, planned) and not _turned(value, optimizer.defaults.get(name))
        else:
            fits = same(value, planned, CLOSE)
        if not fits:
            raise InputError(f"its optimizers have {name}: {value!r}, where the run has {planned!r}"[:500])
        group[name] = value if may_vary or name in more else planned
    return group


def _turned(value: Any, default: Any) -> bool:
    """Whether a number is negative whose default is positive."""
    if isinstance(value, tuple | list):
        return any(not 0 <= item(each) <= 1 for each in value)  # betas
    number, usual = item(value), item(default)
    return isinstance(usual, int | float) and usual > 0 and isinstance(number, int | float) and number < 0


def check_schedules(found: Any, expected: list[Tree], exact: bool) -> list[Tree]:
    """Check the schedules of the learning rates, and give those to continue with.

    Raises:
        InputError: If they are not those of the dry run; or, where only training can know them, of another form.
    """
    if not (same(found, expected, CLOSE) if exact else alike(found, expected)):
        raise InputError("its schedules of the learning rate are not where they should be after its steps")
    return expected if exact else list(found)


def check_states(found: list[Tree], sent: list[Tree], optimizers: Sequence[Optimizer], steps: int) -> None:
    """Check momentum and the like of each parameter.

    Args:
        found: The optimizers' states that came back.
        sent: Those that were sent.
        optimizers: The server's optimizers.
        steps: How many optimizer steps have been made.

    Raises:
        InputError: If it is not what these optimizers can have for these parameters after so many steps.
    """
    for state, before, optimizer in zip(found, sent, optimizers, strict=True):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        form = _form(optimizer)
        for number, values in state["state"].items():
            if type(number) is not int or not 0 <= number < len(parameters):
                raise InputError(f"its optimizer has a state of a parameter {number!r}"[:200])
            _check_form(values, form[number] if form else None, parameters[number])
            _check_values(values, before["state"].get(number, {}), steps)


def _form(optimizer: Optimizer) -> dict[int, Tree] | None:
    """What the state is like after a step, found with parameters without values; None where a step needs values."""
    twin = copy.copy(optimizer)
    twin.state = defaultdict(dict)
    twin.param_groups = [
        {**group, "params": [_nothing(each) for each in group["params"]]} for group in twin.param_groups
    ]
    try:
        twin.step()
    except Exception:  # of any kind: it may be the user's own
        return None
    states: dict[int, Tree] = twin.state_dict()["state"]
    return states


def _nothing(parameter: Tensor) -> Tensor:
    nothing = torch.nn.Parameter(torch.empty_like(parameter, device="meta"))
    nothing.grad = torch.empty_like(nothing)
    return nothing


def _check_form(values: Tree, form: Tree | None, parameter: Tensor) -> None:
    if form is not None and values.keys() != form.keys():
        raise InputError(
            f"its optimizer keeps {', '.join(map(str, values))}, and that of the run {', '.join(form)}"[:500]
        )
    for name, value in values.items():
        if not is_name(name):
            raise InputError("its optimizer keeps something without a name")
        if isinstance(value, Tensor):
            fits = value.layout == torch.strided and not value.is_meta
            if form is not None:
                usual = form[name]
                fits = fits and isinstance(usual, Tensor) and value.dtype == usual.dtype and value.shape == usual.shape
            else:
                fits = fits and _is_of(value, parameter)
        else:
            fits = value is None or type(value) is bool or is_number(value)
            fits = fits and (form is None or type(value) is type(form[name]))
        if not fits:
            what = f"the shape {tuple(value.shape)} ({value.dtype})" if isinstance(value, Tensor) else f"{value!r}"
            raise InputError(f"the optimizer's {name!r} has {what}"[:200])


def _is_of(value: Tensor, parameter: Tensor) -> bool:
    """Whether a tensor may belong to a parameter: as large, or without some of its dimensions, or one number."""
    if value.numel() == 1:
        return True
    if value.dtype not in (parameter.dtype, torch.float32):
        return False
    left = iter(parameter.shape)
    return all(length in left for length in value.shape if length != 1)


def _check_values(values: Tree, before: Tree, steps: int) -> None:
    name = not_finite(values)
    if name is not None:
        raise InputError(f"the optimizer's {name!r} has values that are NaN or infinite")
    for name in _NOT_NEGATIVE:
        value = values.get(name)
        if isinstance(value, Tensor) and value.numel() and bool((value < 0).any()):
            raise InputError(f"the optimizer's {name!r} has negative values")
    if "step" in values:
        was, now = item(before.get("step", 0)), item(values["step"])
        if not isinstance(now, int | float) or now != int(now) or not was <= now <= was + steps:
            raise InputError(f"the optimizer's step went from {was!r} to {now!r} in {steps} steps"[:200])
