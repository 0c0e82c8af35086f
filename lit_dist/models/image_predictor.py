"""ImagePredictor: a torchvision network for any task, such as the age of a patient or several findings at once."""

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from lit_dist.models.image_module import ImageModule
from lit_dist.models.supervised import _adam
from lit_dist.tasks.named import TaskName, named_task


class ImagePredictor(ImageModule):
    """Predicts what a task asks of images; ``ImageClassifier`` is its sibling for classes.

    Args:
        task: What is predicted: ``"classification"``, ``"ordinal"`` grades, ``"multilabel"`` findings,
            ``"regression"`` or ``"survival"``.
        num_classes: The number of classes, grades or findings; None where the task has none.
        backbone: See ``ImageClassifier``, as for all that follows.
        weights: A file with weights to begin with.
        dropout: The probability with which a feature before the last layer is dropped in training.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer.
        lr_scheduler_interval: Whether the schedule advances by epochs or by steps.
        lr_scheduler_frequency: After how many epochs or steps the schedule advances.
        backbone_kwargs: Further arguments of the network.
        channels_last: Whether convolutions get their weights and images with the channels last in memory.
        compiled: Whether ``torch.compile`` makes the network faster.

    Raises:
        InputError: If a setting is out of range, or the backbone or its weights do not fit.

    Example:
        >>> import torch
        >>> ages = ImagePredictor("regression", backbone="squeezenet1_1").eval()
        >>> ages.predict_step(torch.zeros(2, 3, 64, 64), 0).shape
        torch.Size([2])
    """

    def __init__(
        self,
        task: TaskName = "regression",
        num_classes: int | None = None,
        backbone: str = "resnet34",
        weights: str | Path | None = None,
        dropout: float = 0.0,
        optimizer: OptimizerCallable = _adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        lr_scheduler_frequency: int = 1,
        backbone_kwargs: dict[str, Any] | None = None,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__(
            named_task(task, num_classes),
            backbone,
            weights,
            dropout,
            backbone_kwargs,
            channels_last,
            compiled,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
            lr_scheduler_frequency=lr_scheduler_frequency,
        )
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights", "channels_last", "compiled"])
