"""Weights and buffers of which each site has its own: in the module during its visits, and never handed on.

When a visit begins, what came in is put aside, and the site's own is put in its place; when it ends, the site keeps
its own, and what came in goes on. So a run hands on, hashes and merges these tensors as they were when it began. A site
that is visited first begins with what came in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from lit_dist.visits.visit_callback import VisitCallback

LOCAL = "local"
"""Where a callback's staying state has them: ``came_in`` during a visit, ``own``, and with it ``optimizers``."""


def arrive(callback: VisitCallback, module: LightningModule, optimizers: Sequence[Optimizer], carried: bool) -> None:
    """Put a site's own tensors in the place of those that came in.

    Args:
        callback: Says which they are, and keeps them.
        module: The module.
        optimizers: The trainer's.
        carried: Whether the optimizers' state travels: that of these tensors then stays, too.
    """
    tensors = callback.local_tensors(module)
    if not tensors:
        return
    kept: dict[str, Any] = callback.staying.get(LOCAL, {})
    callback.staying[LOCAL] = {**kept, "came_in": _copies(tensors)}
    _put(tensors, kept.get("own", {}))
    if carried:
        for number, optimizer in enumerate(optimizers):
            for name, state in kept.get("optimizers", {}).get(str(number), {}).items():
                optimizer.state[tensors[name]] = dict(state)


def leave(callback: VisitCallback, module: LightningModule, optimizers: Sequence[Optimizer], carried: bool) -> None:
    """Keep a site's own tensors, and put back those that came in; takes what ``arrive`` takes."""
    tensors = callback.local_tensors(module)
    if not tensors:
        return
    came_in = callback.staying[LOCAL]["came_in"]
    callback.staying[LOCAL] = {"own": _copies(tensors)}
    _put(tensors, came_in)
    if carried:
        callback.staying[LOCAL]["optimizers"] = {
            str(number): {name: optimizer.state.pop(each) for name, each in tensors.items() if each in optimizer.state}
            for number, optimizer in enumerate(optimizers)
        }


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in tensors.items()}


@torch.no_grad()
def _put(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        tensors[name].copy_(value)
