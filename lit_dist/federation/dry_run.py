"""DryRun: a site's partial fit as the server goes through it, without images: all that does not depend on them."""

import copy
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler
from typing_extensions import override

from lit_dist.callbacks import WeightTransfer
from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.federation.partial_fit import away, partial_fit
from lit_dist.federation.travelling_state import split
from lit_dist.federation.wire import Tree
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import read_entries
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import set_root
from lit_dist.utils.method_patch import patched
from lit_dist.utils.one_lightning import is_known
from lit_dist.visits.visit_callback import VisitCallback, visit_callbacks

_OF_BATCHES = (
    *("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"),
    *("on_train_batch_start", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end"),
)
_OF_STEPS = (
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "optimizer_step",
    "optimizer_zero_grad",
    "lr_scheduler_step",
)


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a partial fit comes to where nothing is trained.

    Attributes:
        baton: The baton: with the weights that came in, and without the optimizers' state.
        entries: The lines of the visits that ended; of those that were trained, what depends on images is another.
        exact: Whether learning rates and schedules are those of the site, too: not where the module or a callback
            may change them in a step, and where a schedule waits for a metric of training.
        where: Where the run is resumed, as in ``AwayError``.
    """

    baton: Tree
    entries: list[Entry]
    exact: bool
    where: str


def dry_run(
    trainer: Trainer, module: LightningModule, data: LightningDataModule, transfer: WeightTransfer, state: Tree
) -> DryRun:
    """Go through a partial fit with Lightning's own loops, schedules and optimizers, and train nothing.

    The trainer, the module and the callbacks keep the state of the dry run; the next fit begins from a state of its
    own.

    Args:
        trainer: The server's trainer.
        module: The module.
        data: Its loader of the site gives as many batches as the site's, of nothing.
        transfer: The trainer's transfer callback.
        state: The state that the partial fit begins with.

    Raises:
        InputError: If the partial fit has no end at the site.
    """
    twin = copy.copy(transfer)
    twin.begin_run()
    twin.at_site, twin.stop_before = True, away
    waits = _WithoutMetrics()
    kept = [each for each in trainer.callbacks if isinstance(each, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
    still = [_Still(each.state_key) for each in visit_callbacks(trainer)]
    with _apart(trainer, [twin, *kept, *still, waits]) as folder, _without_training(module):
        keys = (transfer.state_key, *(each.state_key for each in still))
        pause = partial_fit(trainer, module, data, _without_tensors(state, keys), at_site=True)
        ledger = folder / LEDGER
        if pause is None:
            raise InputError("a callback or hook ended the fit in the middle of a site's visit")
        baton, _ = split(pause.state, trainer, twin)
        entries = read_entries(ledger) if ledger.exists() else []
    exact = not waits.skipped(trainer, state, baton) and is_exact(trainer, module)
    return DryRun(baton, entries, exact, pause.where)


def is_exact(trainer: Trainer, module: LightningModule) -> bool:
    """Whether nothing but Lightning and the schedules changes learning rates in a run."""
    hooks = (*_OF_BATCHES, *_OF_STEPS)
    own = any(getattr(type(module), name) is not getattr(LightningModule, name) for name in hooks)
    known = all(is_known(type(each)) for each in trainer.callbacks)  # type: ignore[attr-defined]
    return module.automatic_optimization and known and not own


class _Still(VisitCallback):
    """Has what travels of a callback, and does nothing with it.

    Args:
        key: The callback's key in a checkpoint.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    @property
    @override
    def state_key(self) -> str:
        return self._key


class _WithoutMetrics(Callback):
    """Lets schedules that wait for a metric pass where there is none."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for config in trainer.lr_scheduler_configs:
            config.strict = False

    def skipped(self, trainer: Trainer, before: Tree, after: Tree) -> bool:
        """Whether such a schedule may have had its turn at the site."""
        waits = [config for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
        epochs = [tree["loops"]["fit_loop"]["epoch_progress"]["total"]["processed"] for tree in (before, after)]
        by_steps = any(config.interval == "step" for config in waits)
        return bool(waits) and (by_steps or epochs[0] != epochs[1])


def _without_tensors(state: Tree, keys: tuple[str, ...]) -> Tree:
    """A copy that a partial fit may empty, without the server's own callbacks and the optimizers' tensors."""
    return {
        **state,
        "state_dict": dict(state["state_dict"]),
        "callbacks": {name: each for name, each in state["callbacks"].items() if name in keys},
        "optimizer_states": [
            {"param_groups": copy.deepcopy(each["param_groups"]), "state": {}} for each in state["optimizer_states"]
        ],
    }


@contextmanager
def _apart(trainer: Trainer, callbacks: list[Callback]) -> Iterator[Path]:
    """Keep files, loggers, random numbers and warnings of the run out of it."""
    others, loggers, root = trainer.callbacks, trainer.loggers, trainer.default_root_dir  # type: ignore[attr-defined]
    with (
        tempfile.TemporaryDirectory(prefix="lit_dist_") as folder,
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        trainer.callbacks, trainer.loggers = callbacks, []  # type: ignore[attr-defined]
        set_root(trainer, Path(folder))
        try:
            yield Path(folder)
        finally:
            trainer.callbacks, trainer.loggers = others, loggers  # type: ignore[attr-defined]
            set_root(trainer, Path(root))


def _without_training(module: LightningModule) -> AbstractContextManager[None]:
    """Let steps count and do nothing, and keep an empty batch from the module's own hooks."""

    def step(epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        closure()  # in which Lightning counts

    usual = {name: getattr(LightningModule, name).__get__(module) for name in _OF_BATCHES}
    return patched(module, **usual, optimizer_step=step, training_step=lambda *_, **__: None)
