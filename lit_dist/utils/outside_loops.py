"""What Lightning's loops do around a step, for those who pass batches through a module outside them."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Let a module's parts be after the block in the mode, of training or evaluation, that each was in before."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def state_kept(module: nn.Module) -> Iterator[None]:
    """Let a module be after the block as it was before: its buffers, metrics, modes, and what it has collected.

    Its weights are not looked at, and of what its attributes hold only tensors, lists, dicts and sets are.
    """
    kept = [(part, dict(vars(part)), _restorers(vars(part))) for part in module.modules()]
    try:
        yield
    finally:
        for part, attributes, restorers in kept:
            vars(part).clear()
            vars(part).update(attributes)
            for restore in restorers:
                restore()


def _restorers(attributes: dict[str, Any]) -> list[Callable[[], None]]:
    tensors = [*attributes.values(), *attributes.get("_buffers", {}).values()]
    mutable = [each for name, each in attributes.items() if name not in ("_parameters", "_modules")]
    return [_of_tensor(each) for each in tensors if isinstance(each, Tensor)] + [
        restore for each in mutable for restore in _of_container(each)
    ]


def _of_tensor(tensor: Tensor) -> Callable[[], None]:
    before = tensor.detach().clone()

    def restore() -> None:
        if not torch.equal(tensor, before):
            with torch.no_grad():
                tensor.copy_(before)

    return restore


def _of_container(value: Any) -> Iterator[Callable[[], None]]:
    if isinstance(value, dict):
        yield partial(_refill, value, dict(value))
        for each in list(value.values()):
            yield from _of_container(each)
    elif type(value) in (list, deque, set):
        yield partial(_refill, value, list(value))
        for each in list(value):
            yield from _of_container(each)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    (container.extend if isinstance(container, list | deque) else container.update)(content)


def on_device(trainer: Trainer, batch: Any) -> Any:
    """A batch in the trainer's precision, on its device, after the hooks of the datamodule or the module."""
    data, hook = trainer.datamodule, "on_before_batch_transfer"  # type: ignore[attr-defined]
    owner: Any = data if data is not None and is_overridden(hook, data) else trainer.lightning_module
    batch = owner.on_before_batch_transfer(trainer.precision_plugin.convert_input(batch), 0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)
