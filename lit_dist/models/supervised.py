"""SupervisedModule: a network that is trained for a task, with an optimizer and a schedule of the user's."""

from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from typing_extensions import override

from lit_dist.checkpoints.baton import check_weights
from lit_dist.models.metrics import logged_measures
from lit_dist.models.site_reports import SiteReported
from lit_dist.models.stored_module import stored_module
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


_adam.__module__ = "lit_dist.classifier"  # the address that saved settings, and the names of a study's runs, hold


class SupervisedModule(SiteReported, ABC):
    """A network that is trained for a task: the loss in training; the task's measures per site and over all.

    A batch is ``(inputs, targets)``. Validation and test loaders may be a dict by site: then each value is logged as
    ``val_<measure>/<site>``, and as ``val_<measure>`` over all sites' records (likewise ``test_``), so that
    ``val_loss`` is the mean of the sites' losses weighted by their sizes. That loss is the task's own, whatever the
    training loss, so that runs compare. What a kind of network implements is ``forward``, which gives the outputs.

    Args:
        task: What is predicted, and how it is judged.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer.
        lr_scheduler_interval: Whether the schedule advances by epochs or by steps.
        lr_scheduler_frequency: After how many epochs or steps the schedule advances. With visits of one epoch, the
            number of sites ties it to cycles.

    Raises:
        InputError: If a setting is out of range.
    """

    def __init__(
        self,
        task: Task,
        optimizer: OptimizerCallable = _adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        lr_scheduler_frequency: int = 1,
    ) -> None:
        super().__init__(task)
        if lr_scheduler_frequency < 1:
            raise InputError(f"lr_scheduler_frequency={lr_scheduler_frequency} is not a positive number")
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_scheduler_interval = lr_scheduler_interval
        self.lr_scheduler_frequency = lr_scheduler_frequency

    @classmethod
    @override
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """Make the model of a checkpoint.

        Args:
            checkpoint_path: The file, as ``SafetensorsCheckpointIO`` writes it.
            **kwargs: Arguments that are to differ from those that the model of the checkpoint had.

        Raises:
            InputError: If the file cannot be read, or the weights do not fit.
        """
        return stored_module(cls, checkpoint_path, **kwargs)

    @override
    def setup(self, stage: str) -> None:
        if any(isinstance(each, LearningRateFinder) for each in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise InputError("LearningRateFinder looks for a hyperparameter lr, which the model does not have: leave it"
                             " out, and give the rate to the optimizer")  # fmt: skip
        # Lightning does so after it has loaded a checkpoint, whose weights would be rounded to single precision.
        self.trainer.precision_plugin.convert_module(self)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_weights(checkpoint["state_dict"], self.state_dict(), self.trainer.ckpt_path or "the checkpoint")

    @override
    def on_fit_start(self) -> None:
        self._check_task(getattr(self.trainer, "datamodule", None))
        for callback in [*self.trainer.checkpoint_callbacks, *self.trainer.early_stopping_callbacks]:
            self._check_logged(callback, getattr(callback, "monitor", None) or "")

    def _check_task(self, data: Any) -> None:
        task, outputs = getattr(data, "learning_task", None), getattr(data, "num_classes", self.task.outputs)
        if isinstance(task, Task) and not task.fits(self.task) and task.name != self.task.name:
            raise InputError(f"the data is for {task}, the model for {self.task}: give both the same task")
        if outputs != self.task.outputs:
            raise InputError(
                f"the data has {outputs} classes, the model {self.task.outputs}: set num_classes={outputs}"
            )

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(batch, Mapping):
            raise InputError(
                f"the batch holds one batch of each of {', '.join(map(str, batch))}: add a transfer callback, such as"
                " CyclicalWeightTransfer, or train on one pool with centralized=true"
            )
        inputs, targets = batch
        loss = self.training_loss(self(inputs), targets)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(targets))
        return loss

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What a step makes smaller; the task's loss, unless a kind of network trains by another."""
        return self.task.loss(outputs, targets)

    @override
    def reported(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self(inputs)
        return outputs

    @override
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """The task's predictions: probabilities, float (records, classes), or values, float (records,)."""
        return self.task.predictions(self(batch[0] if isinstance(batch, list | tuple) else batch))

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        schedule = self.lr_scheduler(optimizer)
        monitor = getattr(schedule, "monitor", "val_loss")  # for schedules that wait for a plateau
        self._check_logged(schedule, monitor)
        try:
            schedule.state_dict()
        except AttributeError as error:
            raise InputError(f"no checkpoint could hold the state of {type(schedule).__name__}: {error}; give it"
                             " functions written in Python") from None  # fmt: skip
        scheduler: dict[str, Any] = {
            "scheduler": schedule,
            "interval": self.lr_scheduler_interval,
            "frequency": self.lr_scheduler_frequency,
            "monitor": monitor,
        }
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]

    def _check_logged(self, who: object, monitor: str) -> None:
        prefix, _, metric = monitor.partition("/")[0].partition("_")
        logged = logged_measures(self.task)
        if prefix in ("val", "test") and (prefix == "test" or metric not in logged):
            known = ", ".join(f"val_{name}" for name in logged)
            raise InputError(f"{type(who).__name__} monitors {monitor!r}, which a fit does not log; it logs"
                             f" {known}, and each of them as val_<metric>/<site>")  # fmt: skip
