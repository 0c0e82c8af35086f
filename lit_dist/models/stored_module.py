"""Makes a module of a checkpoint, without pickle."""

from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningModule

from lit_dist.checkpoints.baton import check_weights, read_checkpoint
from lit_dist.utils.errors import InputError

Module = TypeVar("Module", bound=LightningModule)


def stored_module(kind: type[Module], path: str | Path, **kwargs: Any) -> Module:
    """Make the module of a checkpoint.

    Args:
        kind: The module's class; its constructor is called with the hyperparameters that it had saved.
        path: The file, as ``SafetensorsCheckpointIO`` writes it.
        **kwargs: Arguments that are to differ from those that the module of the checkpoint had.

    Raises:
        InputError: If the file cannot be read, the class does not take its hyperparameters, or the weights do not fit.
    """
    checkpoint = read_checkpoint(path)
    saved = checkpoint.get("hyper_parameters", {})
    settings = {name: value for name, value in saved.items() if not name.startswith("_")}  # Lightning's own
    try:
        module = kind(**{**settings, **kwargs})
    except TypeError as error:
        raise InputError(f"{path} does not hold a {kind.__name__}: {error}") from None
    check_weights(checkpoint.get("state_dict", {}), module.state_dict(), path)
    module.load_state_dict(checkpoint["state_dict"])
    return module
