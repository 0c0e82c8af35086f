"""TabularPredictor: a small network for the rows of a table, for any task."""

from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from typing_extensions import override

from lit_dist.models.learn_preparation import learn_preparation
from lit_dist.models.supervised import SupervisedModule, _adam
from lit_dist.models.table_preparation import TablePreparation
from lit_dist.provenance.estimation import Estimated
from lit_dist.tasks.named import TaskName, named_task
from lit_dist.utils.errors import InputError


class TabularPredictor(SupervisedModule):
    """Predicts what a task asks of the rows of a table, as ``TabularDataModule`` gives them.

    Its first part, ``preparation``, standardises columns, fills gaps and knows categories. It is learnt once, when a
    fit begins, from sums and counts over the training records of all sites that take part; then it is part of the
    weights. Behind it come linear layers with ReLU between them: without a hidden one it is a linear regression, a
    logistic one, or Cox's model. Of a regression the outputs are scaled by the targets' deviation and shifted by their
    mean, and the training loss is divided by their variance, so that rates of learning fit targets in any unit.

    Args:
        task: What is predicted: ``"classification"``, ``"ordinal"`` grades, ``"multilabel"`` findings,
            ``"regression"`` or ``"survival"``.
        num_classes: The number of classes, grades or findings; None where the task has none.
        numeric: The number of the data's numeric columns.
        categorical: The number of its columns of categories.
        slots: How many categories of each such column are known at most, the most frequent ones.
        hidden: The widths of the hidden layers; an empty list leaves none.
        dropout: The probability with which a value of a hidden layer is dropped in training.
        indicators: Whether each numeric column has an indicator of what was missing.
        least: The least number of a site's records that a sum or count is of that is learnt from; a site of a
            federation may have a greater one.
        ranges: For each numeric column the least and the greatest value; missing values are then filled with the
            median, which is found by counting within that range, instead of the mean.
        bins: Into how many equal parts these ranges are divided.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer.
        lr_scheduler_interval: Whether the schedule advances by epochs or by steps.
        lr_scheduler_frequency: After how many epochs or steps the schedule advances.

    Attributes:
        estimated: What the preparation was learnt from, in the fit that has done so; None in any other.

    Raises:
        InputError: If a setting is out of range; in a fit, if the data has other columns.

    Example:
        >>> import torch
        >>> ages = TabularPredictor("regression", numeric=3, hidden=[]).eval()
        >>> ages.predict_step(torch.tensor([[1.0, torch.nan, 2.0]]), 0).shape
        torch.Size([1])
    """

    def __init__(
        self,
        task: TaskName = "classification",
        num_classes: int | None = None,
        numeric: int = 0,
        categorical: int = 0,
        slots: int = 16,
        hidden: list[int] | None = None,
        dropout: float = 0.0,
        indicators: bool = False,
        least: int = 5,
        ranges: list[list[float]] | None = None,
        bins: int = 64,
        optimizer: OptimizerCallable = _adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        lr_scheduler_frequency: int = 1,
    ) -> None:
        super().__init__(
            named_task(task, num_classes),
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
            lr_scheduler_frequency=lr_scheduler_frequency,
        )
        widths = [32] if hidden is None else list(hidden)
        if not all(1 <= width <= 2**16 for width in widths) or len(widths) > 100:
            raise InputError(f"hidden={widths} are not the widths of layers, each from 1 to {2**16}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout} is not in [0, 1)")
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        scaled = task == "regression"
        self.preparation = TablePreparation(numeric, categorical, slots, indicators, scaled, least, ranges, bins)
        layers: list[nn.Module] = []
        before = self.preparation.features
        for width in widths:
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
            before = width
        self.network = nn.Sequential(*layers, nn.Linear(before, self.task.outputs))
        self.estimated: Estimated | None = None

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._check_columns(getattr(self.trainer, "datamodule", None))
        self.estimated = learn_preparation(self.trainer, self.preparation)

    def _check_columns(self, data: Any) -> None:
        for name in ("numeric", "categorical"):
            found, own = getattr(data, f"{name}_columns", None), getattr(self.preparation.columns, name)
            if found is not None and len(found) != own:
                raise InputError(
                    f"the data has {len(found)} {name} columns, and the model is for {own}: set {name}={len(found)} of"
                    " the model, or choose others (features, exclude and categorical of the data)"
                )

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """The task's outputs, such as logits, float (records, outputs), of raw values, float (records, columns)."""
        outputs: Tensor = self.network(self.preparation(inputs))
        return outputs * self.preparation.target_deviation + self.preparation.target_mean if self._scaled else outputs

    @override
    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = super().training_loss(outputs, targets)
        return loss / self.preparation.target_deviation**2 if self._scaled else loss

    @property
    def _scaled(self) -> bool:
        return self.preparation.columns.target
