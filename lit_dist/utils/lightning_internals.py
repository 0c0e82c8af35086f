"""The only places that touch private parts of Lightning, each with its reason.

``tests/lit_dist/utils/test_lightning_internals.py`` notices when Lightning changes them.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from torch.optim import Optimizer
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat, dim_zero_max, dim_zero_min, dim_zero_sum


def train_source(trainer: Trainer) -> object:
    """The object that a fit takes its training loader from: a datamodule, a module, or what was passed to ``fit``.

    Lightning has no public name for it, and it must be known before the first epoch.
    """
    return trainer.fit_loop._data_source.instance


def set_train_source(trainer: Trainer, loader: object) -> None:
    """Give a fit another training loader than was passed to it; the public way is the caller's, who passes one."""
    trainer.fit_loop._data_source.instance = loader


class ResumableLoader(CombinedLoader, ABC):
    """A loader that a fit resumes from where it was in the epoch.

    Lightning asks a combined loader for its state by private methods: by the public way it would ask each loader, and
    warn of one that has none. That the epoch resumes in its middle it cannot know, and would warn of that, too.
    """

    @property
    @abstractmethod
    def drawn(self) -> int:
        """How many batches of the epoch have been drawn."""

    @abstractmethod
    def resume_at(self, drawn: int) -> None:
        """Begin the next epoch after as many batches."""

    def _state_dicts(self) -> list[dict[str, Any]]:
        return [{"drawn": self.drawn}]

    def _load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        self.resume_at(states[0]["drawn"] if states else 0)
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")


def end_auto_requeue(trainer: Trainer) -> int | None:
    """Keep Lightning from saving a checkpoint in the working folder when SLURM announces a job's end.

    Its handler does so from within the signal. The public switch is an argument of a plugin that Lightning makes itself
    where SLURM is found.

    Returns:
        The signal with which SLURM announces it; None outside SLURM, or where nobody wants the job to be requeued.
    """
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return None
    environment.auto_requeue = False
    return environment.requeue_signal


def take_up_only_what_is_named(trainer: Trainer) -> None:
    """Keep Lightning from beginning with a checkpoint that nobody has named: SLURM's, or one of a fit that failed.

    It looks for them in the folder that the trainer writes to, whichever run left them. There is no switch.
    """
    connector = trainer._checkpoint_connector
    parse = connector._parse_ckpt_path

    def named(fn: Any, path: Any, model_provided: bool, model_connected: bool) -> Any:
        return None if path is None and model_provided else parse(fn, path, model_provided, model_connected)

    connector._parse_ckpt_path = named  # type: ignore[method-assign, assignment]


def taken_up_by_itself(trainer: Trainer) -> str | None:
    """The checkpoint of SLURM that Lightning found in the trainer's folder and has loaded; None if it has not."""
    found = trainer._checkpoint_connector._hpc_resume_path if SLURMEnvironment.detect() else None
    return found if found and found == str(trainer.ckpt_path) else None


def at_swap(average: WeightAveraging, then: Callable[[], None]) -> dict[str, Callable[[LightningModule], None]]:
    """Replacements for methods of an average, with which no trained weights are lost and each swap is known of.

    At the end of a fit Lightning puts the average over the trained weights, before the last checkpoint is written; a
    fit that is made longer could not be resumed from it. It has no hook for the two.

    Args:
        average: The callback.
        then: Called whenever the trained weights and the average have changed places.

    Returns:
        The replacements by the methods' names.
    """
    swap = average._swap_models

    def swapped(module: LightningModule) -> None:
        swap(module)
        then()

    return {"_swap_models": swapped, "_copy_average_to_current": swapped}


def average_back(average: WeightAveraging, module: LightningModule) -> None:
    """Put the weights of a module into its average."""
    inner = average._average_model
    assert inner is not None
    inner.module.load_state_dict(module.state_dict())


def check_early_stopping_after_validation(trainer: Trainer) -> None:
    """Make early stopping look at its metric after validation only.

    Lightning decides in ``EarlyStopping.setup``, from how often the trainer validates. A callback that changes this in
    its own ``setup`` may come later, and early stopping would then miss its metric in the first epoch.
    """
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping):
            callback._check_on_train_epoch_end = False


def named_checkpoint(trainer: Trainer, word: str) -> str | None:
    """The checkpoint that ``"best"``, ``"last"`` or ``"hpc"`` stands for; None if there is none.

    Lightning's public way only warns where there is no last one, and continues with the weights that the model has.
    """
    connector = trainer._checkpoint_connector
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path = connector._parse_ckpt_path(TrainerFn.TESTING, word, model_provided=True, model_connected=True)
        except (ValueError, AttributeError):  # the second where a callback keeps no best one
            return None
    return None if path is None else str(path)


def dump_checkpoint(trainer: Trainer) -> dict[str, Any]:
    """What Lightning would write into a checkpoint. Its public way gives it to a file only."""
    checkpoint: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    return checkpoint


def synchronises_batch_norm(trainer: Trainer) -> bool:
    """Whether batch norm counts the batches of all processes. Lightning keeps it in the strategy only."""
    return getattr(trainer.strategy, "_layer_sync", None) is not None


def set_root(trainer: Trainer, folder: Path) -> None:
    """Give a trainer another folder for its files. Lightning takes it in the constructor only."""
    trainer._default_root_dir = str(folder)  # type: ignore[attr-defined]


def make_resumable(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Change the progress in a checkpoint that is saved, so that a fit resumes from exactly where it was written.

    Lightning does so from the middle of an epoch. From its edges (measured on 2.6.0 and 2.6.6, in every hook) it skips
    a validation, or a whole epoch whose number of batches differs from that of the one before. Here each such edge
    becomes one of two states that Lightning resumes from rightly: a validation to run, or an epoch to begin.
    """
    progress = checkpoint["loops"]["fit_loop"]
    epoch, batch = progress["epoch_progress"]["total"], progress["epoch_loop.batch_progress"]
    if epoch["processed"] == epoch["started"] - 1:  # in an epoch
        _set_drawn(progress, batch["current"]["processed"])
        at_batch_end = batch["total"]["completed"] == batch["total"]["processed"] - 1
        validation, all_validations = (
            progress["epoch_loop.val_loop.batch_progress"][of] for of in ("current", "total")
        )
        validated = 0 < validation["ready"] == validation["completed"]
        if batch["total"]["ready"] > batch["total"]["started"]:  # a batch was fetched, and not trained on yet
            batch["is_last_batch"] = False
            all_validations.update(validation)  # one that was resumed counts as begun twice, and as ended once
            for count in (batch["total"], batch["current"]):
                count["ready"] = count["started"]
            _leave_for_restart_to_count(progress, trainer)
        elif trainer.training and batch["total"]["completed"] == batch["total"]["ready"]:
            all_validations.update(validation)  # the next batch was asked for
            _leave_for_restart_to_count(progress, trainer)
        elif _validation_due(trainer) and (at_batch_end or not validated):
            _to_validation(progress)
        elif at_batch_end and batch["is_last_batch"]:
            progress["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
            _to_next_epoch(progress)
    elif epoch["completed"] == epoch["processed"] - 1:  # at the end of an epoch
        _to_next_epoch(progress)
    else:  # between two epochs
        _zero(progress)
    # A fit that was resumed at the start of an epoch counts the current one short, and would not be resumed once more.
    progress["epoch_progress"]["current"] = dict(progress["epoch_progress"]["total"])


def forget_validation(trainer: Trainer) -> None:
    """Let a trainer that has validated before resume from a checkpoint in which a validation is to be run.

    Lightning keeps whether the validation has run from one fit to the next, and would pass it over.
    """
    trainer.fit_loop.epoch_loop.val_loop._has_run = False


def forget_logged(trainer: Trainer, but: Collection[str]) -> None:
    """Forget what steps have logged under other names than some.

    Lightning repeats a value in each row of the epoch until it is logged anew, and has no way to take it back.
    """
    for result in trainer.fit_loop.epoch_loop._results.values():
        if result.meta.name not in but:
            result._forward_cache = None


def end_restart(trainer: Trainer) -> None:
    """Let a resumed fit run as any other, once it is past the point where it was interrupted.

    To be called at the start of training, of each batch and of each validation. Lightning takes the whole first epoch
    for the restart: it would count a step too many at its beginning, and leave schedules that wait for a plateau out at
    its end.
    """
    loop = trainer.fit_loop
    batch = loop.epoch_loop.batch_progress.state_dict()
    past = batch["current"]["ready"] == 0 or batch["total"]["ready"] > batch["total"]["started"]
    if loop.restarting and (past or trainer.state.stage != "train"):
        loop._restarting = False  # its public setter says True again where the run is counted in steps
        loop.epoch_loop.restarting = False


def _validation_due(trainer: Trainer) -> bool:
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def _leave_for_restart_to_count(progress: dict[str, Any], trainer: Trainer) -> None:
    """After a batch that was validated after, Lightning counts a step for the loggers once more when it restarts."""
    loop = trainer.fit_loop.epoch_loop
    counts: Any = (loop.batch_progress.total, loop.batch_progress.current)
    fetched = counts[0].ready - counts[0].started
    for count in counts:
        count.ready -= fetched
    if counts[1].ready and _validation_due(trainer):
        progress["epoch_loop.state_dict"]["_batches_that_stepped"] = loop._batches_that_stepped - 1
    for count in counts:
        count.ready += fetched


def _to_validation(progress: dict[str, Any]) -> None:
    """The state of a validation that was interrupted before its first batch."""
    batch = progress["epoch_loop.batch_progress"]
    for count in (batch["total"], batch["current"]):
        count["completed"] = count["processed"]
    if batch["is_last_batch"]:
        _set_drawn(progress, 0)
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    nothing = dict.fromkeys(begun, 0)
    progress["epoch_loop.val_loop.batch_progress"].update(total=begun, current=nothing, is_last_batch=False)


def _to_next_epoch(progress: dict[str, Any]) -> None:
    """The state before the first batch of the epoch after this one."""
    for count in progress["epoch_progress"].values():
        count["processed"] = count["completed"] = count["started"]
        count["ready"] = count["started"] + 1
    total = progress["epoch_loop.batch_progress"]["total"]
    total["completed"] = total["processed"]
    _zero(progress)


def _zero(progress: dict[str, Any]) -> None:
    """Lightning counts the batches of an epoch from zero only where a fit continues by itself."""
    for name in ("batch_progress", "scheduler_progress", "automatic_optimization.optim_progress"):
        _zero_current(progress[f"epoch_loop.{name}"])
    progress["epoch_loop.batch_progress"]["is_last_batch"] = False
    _set_drawn(progress, 0)


def _set_drawn(progress: dict[str, Any], batches: int) -> None:
    """Set the place in the epoch that a SiteLoader resumes from."""
    for state in progress["state_dict"].get("combined_loader", []):
        if "drawn" in state:
            state["drawn"] = batches


def _zero_current(progress: dict[str, Any]) -> None:
    for name, value in progress.items():
        if name == "current":
            progress[name] = dict.fromkeys(value, 0)
        elif isinstance(value, dict):
            _zero_current(value)


@contextmanager
def given_hyperparameters(settings: Mapping[str, Any]) -> Iterator[None]:
    """Let a module that is made here save settings as its hyperparameters, as it does where LightningCLI makes it.

    They are part of the settings' hash and of checkpoints. Lightning's public way parses settings to get there.

    Args:
        settings: ``_class_path`` and the arguments of the module's class.
    """
    with _given_hyperparameters_context(dict(settings), "lightning.pytorch.cli.instantiate_module"):
        yield


def loss_scale(trainer: Trainer, optimizer: Optimizer) -> float:
    """By how much an optimizer's gradients are too large when its callbacks see them, with 16-mixed.

    Fused optimizers divide by it themselves, and Lightning and torch tell only each other which ones do.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None and _optimizer_handles_unscaling(optimizer) else 1.0


def adds_up(metric: Metric) -> bool:
    """Whether the states of a torchmetric at several sites make that of all their records, by ``Metric.merge_state``.

    How each state is merged is known to the metric only. A mean of states would not weigh the sites.
    """
    if metric.full_state_update or metric.full_state_update is None or metric.dist_sync_on_step:
        return False
    fine = {dim_zero_sum, dim_zero_cat, dim_zero_max, dim_zero_min}
    return all(
        reduction in fine or (reduction is None and isinstance(metric.metric_state[name], list))
        for name, reduction in metric._reductions.items()
    )


def judges_in_turn(trainer: Trainer) -> bool:
    """Whether a validation or test that is under way comes to one loader after the other.

    A combined loader may give a batch of each at once instead. Its public face does not say which.
    """
    loop: Any = trainer._evaluation_loop
    return bool(loop._is_sequential)


def judged_source(trainer: Trainer, split: str) -> object:
    """What gives the loaders of a fit's validation, or of a test within it: a datamodule, a module, or the loaders.

    As ``train_source``: the trainer shows them only after it has validated.
    """
    if split == "val":
        return trainer.fit_loop.epoch_loop.val_loop._data_source.instance
    return trainer.datamodule or trainer.lightning_module  # type: ignore[attr-defined]


def mode_of(loader: CombinedLoader) -> str:
    """The mode of a combined loader, which it tells no one once it is made."""
    return loader._mode
