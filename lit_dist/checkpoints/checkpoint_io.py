"""SafetensorsCheckpointIO: a Trainer's checkpoints as safetensors and JSON instead of pickles."""

import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO
from typing_extensions import override

from lit_dist.checkpoints.baton import read_checkpoint, write_checkpoint
from lit_dist.utils.errors import InputError


class SafetensorsCheckpointIO(CheckpointIO):
    """Reads and writes all of a Trainer's checkpoints without pickle.

    For any Lightning project: ``Trainer(plugins=[SafetensorsCheckpointIO()])``. A checkpoint holds all that Lightning
    resumes from (weights, loops, optimizers, schedulers, callbacks, the datamodule); it is written to a file beside it,
    synced and renamed, and each of its bytes is checked when it is read. ``lit_dist.read_checkpoint`` reads one.

    Args:
        finite: Whether to refuse weights that are NaN or infinite, in writing and in reading. A network that keeps
            infinities on purpose, as some attention masks do, needs False.

    Raises:
        InputError: In writing and reading, as ``write_checkpoint`` and ``read_checkpoint`` do.
    """

    def __init__(self, finite: bool = True) -> None:
        self.finite = finite
        if (fabric := sys.modules.get("lightning_fabric.plugins")) is not None:
            fabric.CheckpointIO.register(type(self))  # pytorch_lightning's, of the same interface

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        write_checkpoint(checkpoint, _local(path), self.finite)

    @override
    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(_local(path), self.finite)

    @override
    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        _local(path).unlink(missing_ok=True)


def _local(path: str | os.PathLike[str]) -> Path:
    if "://" in os.fspath(path):
        raise InputError(f"{os.fspath(path)} is not on a local or mounted disk; checkpoints are written to those only")
    return Path(path)
