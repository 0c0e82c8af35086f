"""A trainer whose checkpoints need no pickle, and which takes up nothing that it was not told to."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io import CheckpointIO

from lit_dist.checkpoints.checkpoint_io import SafetensorsCheckpointIO
from lit_dist.utils.lightning_internals import end_auto_requeue, take_up_only_what_is_named


def make_trainer(make: Callable[..., Trainer], plugins: Any, requeue: bool = False, **arguments: Any) -> Trainer:
    """Make a trainer.

    Args:
        make: Makes it of its arguments by name.
        plugins: Its plugins: none, one or a list.
        requeue: Whether a ``RunCheckpoint`` puts SLURM's job back into the queue; else nothing does.
        **arguments: Its other arguments.
    """
    given = as_list(plugins)
    if not any(isinstance(plugin, CheckpointIO) for plugin in given):
        given.append(SafetensorsCheckpointIO())
    made = make(plugins=given, **arguments)
    take_up_only_what_is_named(made)
    if not requeue:
        end_auto_requeue(made)
    return made


def as_list(setting: Any) -> list[Any]:
    """What a setting of the trainer has that takes nothing, one thing or a list, such as its callbacks."""
    if setting is None:
        return []
    return list(setting) if isinstance(setting, list | tuple) else [setting]
