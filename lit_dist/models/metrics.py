"""What a classifier is judged by, for one site or for all sites together."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import nll_loss
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy
from torchmetrics.utilities import dim_zero_cat

from lit_dist.utils.terminal_table import print_table

METRICS = ("loss", "accuracy", "balanced_accuracy", "auroc", "majority_rate")
"""The names of the values, in the order of importance."""

BETTER = {
    "loss": "min",
    "accuracy": "max",
    "balanced_accuracy": "max",
    "auroc": "max",
    "mean_absolute_error": "min",
}
"""Whether a value improves by falling or by rising; the majority rate does neither."""

POOLED = ("loss", "accuracy", "mean_absolute_error")
"""The values of all sites together that follow from those of each site and the numbers of their images."""


def pool(values: Sequence[float], sizes: Sequence[int]) -> float:
    """The mean over sites, weighted by their numbers of images.

    Example:
        >>> pool([1.0, 4.0], [2, 1])
        2.0
    """
    return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)


def judge(log_probs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Judge predictions by the values named in ``METRICS``.

    The majority rate is the accuracy of always guessing the commonest class of these labels: an accuracy means little
    without it. Balanced accuracy and AUROC are means over the classes that occur; with two classes the AUROC is the
    usual one, with more it is the mean of one class against the rest. It is NaN where only one class occurs.

    Args:
        log_probs: Log-probabilities, float, (images, classes).
        labels: Classes, int64, (images,).

    Returns:
        Scalars by name; the loss is the mean cross-entropy in nats.

    Example:
        >>> values = judge(torch.tensor([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]).log(), torch.tensor([0, 0, 1]))
        >>> round(values["accuracy"].item(), 3), round(values["majority_rate"].item(), 3)
        (1.0, 0.667)
    """
    classes = log_probs.shape[1]
    counts = torch.bincount(labels, minlength=classes)
    present = counts.nonzero().flatten().tolist()
    predicted = log_probs.argmax(dim=1)
    recalls = [(predicted[labels == label] == label).float().mean() for label in present]
    return {
        "loss": nll_loss(log_probs, labels),
        "accuracy": multiclass_accuracy(predicted, labels, num_classes=classes, average="micro"),
        "balanced_accuracy": torch.stack(recalls).mean(),
        "auroc": _auroc(log_probs, labels, present),
        "majority_rate": counts.max() / len(labels),
    }


def log_of(probabilities: Tensor) -> Tensor:
    """The logarithms of probabilities, as ``judge`` takes them; finite, also of one that was rounded to 0."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _auroc(log_probs: Tensor, labels: Tensor, present: list[int]) -> Tensor:
    if len(present) < 2:
        return log_probs.new_tensor(torch.nan)
    against = [1] if log_probs.shape[1] == 2 else present
    scores = log_probs.exp()
    return torch.stack([binary_auroc(scores[:, label], (labels == label).long()) for label in against]).mean()


class SiteReport(Metric):
    """Collects the predictions of an epoch, over all processes, and judges them at its end.

    Example:
        >>> report = SiteReport()
        >>> report.update(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        >>> report.compute()["accuracy"].item()
        1.0
    """

    full_state_update = False
    size = 0  # the number of images that compute() has judged
    log_probs: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("log_probs", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            logits: Float, (images, classes).
            labels: int64, (images,).
        """
        self.log_probs.append(logits.detach().float().log_softmax(dim=1))
        self.labels.append(labels)

    def compute(self) -> dict[str, Tensor]:
        """The values of all batches since the last reset."""
        labels = dim_zero_cat(self.labels)
        self.size = len(labels)
        return judge(dim_zero_cat(self.log_probs), labels)


class RegressionReport(Metric):
    """The same for values: the mean squared error, as ``loss``, and the mean absolute error.

    Example:
        >>> report = RegressionReport()
        >>> report.update(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0]))
        >>> {name: value.item() for name, value in report.compute().items()}
        {'loss': 2.0, 'mean_absolute_error': 1.0}
    """

    full_state_update = False
    size = 0
    errors: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        # A state of its own: metrics inside a metric are neither reset nor gathered with it.
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            outputs: Float, (images,) or (images, 1).
            labels: Float, (images,) or (images, 1).
        """
        errors = outputs.detach().float() - labels.float().reshape(outputs.shape)
        self.errors.append(errors.flatten())

    def compute(self) -> dict[str, Tensor]:
        """The values of all batches since the last reset."""
        errors = dim_zero_cat(self.errors)
        self.size = len(errors)
        return {"loss": errors.square().mean(), "mean_absolute_error": errors.abs().mean()}


def shown(metric: str, value: float) -> str:
    """A value as tables have it; an AUROC is NaN where all images are of one class.

    Example:
        >>> shown("accuracy", 0.5), shown("auroc", float("nan"))
        ('0.500', 'undefined')
    """
    return "undefined" if metric == "auroc" and math.isnan(value) else f"{value:.3f}"


def print_reports(reports: Mapping[str, Mapping[str, Tensor]], title: str, sizes: Mapping[str, int]) -> None:
    """Print a table with one row a report, by its name, and what its numbers do not say."""
    metrics = list(next(iter(reports.values()), {}))
    columns = ["site", "images", *(metric.replace("_", " ") for metric in metrics)]
    values = {name: {metric: value.item() for metric, value in report.items()} for name, report in reports.items()}
    rows = [
        [name, str(sizes[name]), *(shown(metric, row[metric]) for metric in metrics)] for name, row in values.items()
    ]
    print_table(title, columns, rows)
    undefined = [name for name, row in values.items() if math.isnan(row.get("auroc", 0.0))]
    if undefined:
        print(f"The AUROC is undefined where all images are of one class: {', '.join(undefined)}")
    guessed = [name for name, row in values.items() if row.get("accuracy", 1.0) <= row.get("majority_rate", 0.0)]
    if guessed:
        print(f"No better than always guessing the commonest class (majority rate): {', '.join(guessed)}")
