"""What Lightning's loops do around a step, for those who pass batches through a module outside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer
from torch import nn


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Let a module's parts be after the block in the mode, of training or evaluation, that each was in before."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def on_device(trainer: Trainer, batch: Any) -> Any:
    """A batch in the trainer's precision, on its device, after the hooks of the datamodule or the module."""
    return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch), dataloader_idx=0)
