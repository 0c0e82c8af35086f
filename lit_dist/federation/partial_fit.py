"""A partial fit: the part of a run that the server or one site can do alone, until what comes next is elsewhere.

A federated run is a run that is interrupted wherever the next batch or the next validation is not here, and resumed
where it is. What makes an interrupted run equal an unbroken one makes a federated run equal a simulated one.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.checkpoints.checkpoint_io import SafetensorsCheckpointIO
from lit_dist.utils.lightning_internals import dump_checkpoint, forget_validation
from lit_dist.utils.outside_loops import modes_kept

VALIDATION = "validation"
_MEMORY = "the state that was handed over"


class AwayError(Exception):
    """What comes next is not here.

    Args:
        where: The name of the site whose batch is needed; or ``VALIDATION``, which takes every site's images.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"the fit continues at {where}")
        self.where = where


def away(where: str) -> None:
    """Raise ``AwayError``."""
    raise AwayError(where)


@contextmanager
def with_callback(trainer: Trainer, callback: Callback, first: bool = False) -> Iterator[None]:
    """Add a callback to a trainer's in the block: as the last one, or as the first."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.insert(0 if first else len(callbacks), callback)
    try:
        yield
    finally:
        callbacks.remove(callback)


class Elsewhere:
    """Stands for the training loader of a site that is not here, with as many batches."""

    def __init__(self, site: str, batches: int) -> None:
        self.site = site
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        return self  # Lightning begins to iterate before it needs a batch

    def __next__(self) -> Any:
        away(self.site)


@dataclass(frozen=True, slots=True)
class Pause:
    """Where a partial fit ended.

    Attributes:
        state: The checkpoint, from which the run is resumed; its tensors are those of the module.
        where: Where it is resumed, as in ``AwayError``.
    """

    state: dict[str, Any]
    where: str


class _Pausing(Callback):
    """Takes the state in the moment in which the fit cannot continue, before anything is torn down.

    Lightning has no way to resume a fit that has nothing left but its end. So a site leaves the end to the server,
    which is brought past the place where Lightning would pass the whole fit over.
    """

    takes_part = False

    def __init__(self, at_site: bool, state: Mapping[str, Any] | None) -> None:
        self.at_site = at_site
        self.state = state
        self.pause: Pause | None = None

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._max_epochs = trainer.fit_loop.max_epochs

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.fit_loop.max_epochs = -1

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = trainer.current_epoch
        if not self.at_site:
            self.restore(trainer)
        if self.state is not None:
            self.state["state_dict"].clear()  # the module has them, and nobody needs them twice

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Without a validation in between, a visit that the end of the run cuts short would be made whole here.
        over = self._max_epochs is not None and 0 <= self._max_epochs <= trainer.current_epoch
        if self.at_site and over and trainer.current_epoch > self._began:
            raise AwayError(VALIDATION)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.at_site:
            raise AwayError(VALIDATION)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, AwayError):
            self.pause = Pause(dump_checkpoint(trainer), exception.where)

    def restore(self, trainer: Trainer) -> None:
        trainer.fit_loop.max_epochs = self._max_epochs


class _Memory(SafetensorsCheckpointIO):
    """Gives a checkpoint that was checked already, and writes others as always."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self.state = state

    @override
    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return self.state if os.fspath(path) == _MEMORY else super().load_checkpoint(path)


@contextmanager
def _from_memory(trainer: Trainer, state: Mapping[str, Any] | None) -> Iterator[None]:
    usual = trainer.strategy.checkpoint_io
    if state is not None:
        trainer.strategy.checkpoint_io = _Memory(dict(state))
    try:
        yield
    finally:
        trainer.strategy.checkpoint_io = usual


def partial_fit(
    trainer: Trainer,
    module: LightningModule,
    data: LightningDataModule,
    state: Mapping[str, Any] | None,
    at_site: bool = False,
) -> Pause | None:
    """Resume a run as far as it goes here.

    Args:
        trainer: The trainer.
        module: The module.
        data: Its training loaders are one a site, ``Elsewhere`` for those that are not here.
        state: The checkpoint to resume from, whose weights are let go of when the module has them; None begins the run.
        at_site: Whether the partial fit is a site's, which leaves validation and the end of the run to the server.

    Returns:
        Where the partial fit ended; None if the run has.
    """
    pausing = _Pausing(at_site, state)
    forget_validation(trainer)
    trainer.num_sanity_val_steps = 0
    limit = trainer.limit_val_batches
    trainer.limit_val_batches = 1.0 if limit > 0 else limit  # the loader of a validation elsewhere is a placeholder
    try:
        # As the first callback: no other has left its place then when the state is taken. A validation that did not
        # come to its end leaves the module in evaluation mode.
        with (
            modes_kept(module),
            warnings.catch_warnings(),
            _from_memory(trainer, state),
            with_callback(trainer, pausing, first=True),
        ):
            # That it has some of this run's already is so in every partial fit but the first.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            trainer.fit(module, datamodule=data, ckpt_path=None if state is None else _MEMORY)
    except AwayError:
        return pausing.pause
    finally:
        pausing.restore(trainer)
        trainer.limit_val_batches = limit
    return None
