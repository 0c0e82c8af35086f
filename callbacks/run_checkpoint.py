"""RunCheckpoint: keeps the state of a run on disk, so that it can be resumed after any interruption."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

from lit_dist.callbacks.averaged_weights import AveragedWeights
from lit_dist.callbacks.ending import out_of_time, progress
from lit_dist.callbacks.fit_checks import check_fit, check_hyperparameters, check_optimizers
from lit_dist.callbacks.heuristics.find_transfer import find_transfer
from lit_dist.callbacks.run_seeds import RunSeeds
from lit_dist.callbacks.termination import Termination
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.checkpoint_io import SafetensorsCheckpointIO
from lit_dist.checkpoints.csv_rows import RowCount
from lit_dist.checkpoints.run_folder import (
    CHECKPOINTS,
    checkpoint_path,
    delete_old_checkpoints,
    foreign_checkpoint,
    run_folder,
)
from lit_dist.checkpoints.run_lock import FitLock
from lit_dist.checkpoints.staying_files import folder_in, put_away
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import end_restart, make_resumable, taken_up_by_itself
from lit_dist.utils.one_lightning import warn_of_other_package


class RunCheckpoint(Checkpoint):
    """Writes a checkpoint after every visit (without a transfer callback: after every epoch), and keeps the newest.

    A run that resumes from one ends with the same weights as one that was never interrupted. ``lit-dist fit`` has it,
    and resumes with ``--resume``; elsewhere pass ``ckpt_path=newest_checkpoint(folder)`` to ``fit``. When the process
    is told to end (SIGTERM, as clusters do before they take a machine away, or the signal with which SLURM announces
    that), it writes one more and ends the fit; SLURM's job is put back into the queue.

    What stays at sites that wait for their next visit lies in files beside the checkpoints, in ``staying/``. Each is
    written once, so that a checkpoint is as large with many sites as with few; a copy of one is resumed with them.

    Add it after the ``ModelCheckpoint`` callbacks, so that it knows of their best model, and give the Trainer the
    plugin ``SafetensorsCheckpointIO``.

    Args:
        every_n_steps: Write one after so many optimizer steps, too.
        keep: How many to keep.

    Raises:
        InputError: If an argument is not positive, the plugin is missing, another process trains in the run's folder,
            or a checkpoint cannot be written; the last one is then untouched.
        SIGTERMException: After the last checkpoint, when the process was told to end.
    """

    def __init__(self, every_n_steps: int | None = None, keep: int = 2) -> None:
        warn_of_other_package()
        if min(every_n_steps or 1, keep) < 1 or every_n_steps == 0:
            raise InputError(f"every_n_steps={every_n_steps} and keep={keep} count from 1")
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._rows: dict[str, RowCount] = {}  # of the loggers, by their folders
        self._saved = (0, 0)  # visits or epochs that had ended, and optimizer steps, when the last one was written
        self._stopped = False
        self._late = False  # a Timer's time is up, and the state not yet saved
        self._closed = False
        self._termination = Termination()
        self._seeds = RunSeeds()
        self._lock = FitLock()
        self._averaged: AveragedWeights | None = None
        self._staying: Path | None = None  # the folder for what stays at sites, in a fit
        self._needed: set[str] = set()  # the files there that the fit reads from
        self._began = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_fit(trainer)
        if stage == "fit" and not isinstance(trainer.strategy.checkpoint_io, SafetensorsCheckpointIO):
            raise InputError(
                "RunCheckpoint needs checkpoints without pickle: Trainer(plugins=[SafetensorsCheckpointIO()])"
            )
        if stage == "fit":
            self._lock.take(trainer)
            check_hyperparameters(trainer)
            # Lightning does so after it has loaded a checkpoint, whose weights would be rounded to single precision.
            trainer.precision_plugin.convert_module(pl_module)
            self._averaged, self._began = AveragedWeights(trainer), False
            self._termination.take_over(trainer)
            self._seeds.setup(trainer, steered=find_transfer(trainer) is not None)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seeds.replan()
        path = taken_up_by_itself(trainer)
        if path is not None:
            raise InputError(
                f"Lightning has found {path} and would begin with it, whichever run has left it; move it elsewhere, and"
                " give it as ckpt_path if the run is to begin with it"
            )

    @override
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._termination.listen()

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._late = self._closed = False
        self._began = True
        self._staying = folder_in(run_folder(trainer) / CHECKPOINTS)
        self._termination.listen()
        end_restart(trainer)
        self._seeds.begin(trainer, trainer.ckpt_path is not None)
        foreign = foreign_checkpoint(trainer)
        if foreign is not None:
            sha256, _ = fingerprint(pl_module.state_dict())
            rank_zero_info(f"A new run begins with the state of {foreign}, whose weights have the SHA-256 {sha256}.")
        if trainer.global_step == 0:
            self._saved, self._stopped = (0, 0), False
        if self._stopped:  # the run had ended by itself, by early stopping for example
            trainer.should_stop = True

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_optimizers(trainer)
        self._save_if_due(trainer)

    # The end of a batch would be too early: its metrics are logged after it, and a resumed run would lack them. And
    # while gradients wait for their step nothing can be saved, since they are in no checkpoint.
    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        end_restart(trainer)
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._save_if_due(trainer)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._seeds.after_step(trainer, batch_idx)
        if trainer.should_stop and not self._closed and out_of_time(trainer):
            # Lightning would end the epoch here, as if it were whole.
            trainer.should_stop, self._late = False, True

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            if not trainer.sanity_checking:
                end_restart(trainer)
                self._seeds.before_validation(trainer)
            self._end_if_told(trainer)

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.state.fn == "fit" and trainer.world_size == 1:  # processes may have unequal numbers of batches
            self._end_if_told(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seeds.after_epoch(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stopped = trainer.should_stop and not out_of_time(trainer)
        if not self._closed:
            self._save(trainer)
        if self._averaged is not None:
            self._averaged.end(trainer)
        self._termination.stop()  # not in teardown: Lightning has given the signal back before that

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self._averaged is not None and not self._began:
            self._averaged.end_at_once(trainer)
        self._close()

    def _close(self) -> None:
        self._staying = None
        self._termination.stop()
        self._seeds.close()
        self._lock.give_back()
        if self._averaged is not None:
            self._averaged.close()

    # -- saving ----------------------------------------------------------------------------------------------------

    def _save_if_due(self, trainer: Trainer) -> None:
        ended, step = self._progress(trainer)
        every = self.every_n_steps
        if self._late or ended > self._saved[0] or (every and step // every > self._saved[1] // every):
            self._save(trainer)
        if self._late:
            trainer.should_stop, self._late, self._closed = True, False, True
        self._end_if_told(trainer)

    def _progress(self, trainer: Trainer) -> tuple[int, int]:
        transfer = find_transfer(trainer)
        return (trainer.current_epoch if transfer is None else transfer.visits_ended), trainer.global_step

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        self._saved = self._progress(trainer)
        run = run_folder(trainer)
        trainer.save_checkpoint(checkpoint_path(run, trainer.global_step), weights_only=False)
        if trainer.is_global_zero:
            delete_old_checkpoints(run, self.keep, self._needed)

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Here, since only now it is sure that a checkpoint is written; ours is the last of the callbacks.
        if self._averaged is not None:
            self._averaged.put_apart(checkpoint)
        if self._staying is not None and trainer.is_global_zero:
            self._needed = put_away(checkpoint["callbacks"], self._staying)
        make_resumable(checkpoint, trainer)
        checkpoint["logs"] = self.logs(trainer)

    def logs(self, trainer: Trainer) -> dict[str, Any]:
        """How far the loggers have got, for a checkpoint: the rows and columns of CSV files, and the ids of W&B."""
        csv = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        return {
            "rows": [self._count_rows(logger).saved() for logger in csv],
            "columns": [self._count_rows(logger).columns for logger in csv],
            "wandb": [logger.version for logger in trainer.loggers if isinstance(logger, WandbLogger)],
        }

    def _count_rows(self, logger: CSVLogger) -> RowCount:
        count = self._rows.get(logger.log_dir)
        if count is None or count.logger is not logger:  # a partial fit of a federation continues to count
            count = self._rows[logger.log_dir] = RowCount(logger)
        return count

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "saved": self._saved,
            "stopped": self._stopped,
            "seeds": self._seeds.state_dict(),
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved, self._stopped = state_dict["saved"], state_dict["stopped"]
        if "seeds" in state_dict:  # in a checkpoint of an earlier release there are none
            self._seeds.load_state_dict(state_dict["seeds"])

    def _end_if_told(self, trainer: Trainer) -> None:
        if self._termination.told(trainer):
            self._save(trainer)
            rank_zero_info(f"The fit was told to end {progress(trainer)}")
            self._termination.requeue(trainer)
            raise SIGTERMException
