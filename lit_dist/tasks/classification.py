"""Classification: one of several classes a record."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy
from typing_extensions import override

from lit_dist.tasks.resamples import weighted_auroc, weighted_mean, weighted_recall
from lit_dist.tasks.task import ClassesTask, Measure, Rows, called

MOST_CLASSES = 6
"""How many classes have a column each."""
_OTHERS = ("site", "records", "patients", "train", "val", "test", "left out", "majority")


class Classification(ClassesTask):
    """One of several classes a record; targets are int64, (records,), outputs logits, and predictions probabilities.

    The loss is the cross-entropy in nats. The majority rate is the accuracy of always guessing the commonest class: an
    accuracy means little without it. Balanced accuracy and AUROC are means over the classes that occur; with two
    classes the AUROC is the usual one, with more it is the mean of one class against the rest. It is NaN where only one
    class occurs.

    Args:
        class_names: The names of the classes, or how many there are.

    Example:
        >>> scores = torch.tensor([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]).log()
        >>> values = Classification(2).judge(scores, torch.tensor([0, 0, 1]))
        >>> round(values["accuracy"].item(), 3), round(values["majority_rate"].item(), 3)
        (1.0, 0.667)
    """

    name: ClassVar[str] = "classification"
    measures: ClassVar[dict[str, Measure]] = {
        "loss": Measure("cross-entropy", "min", low=0),
        "accuracy": Measure("accuracy", "max", low=0, high=1),
        "balanced_accuracy": Measure("balanced accuracy", "max", "sums", 0, 1),
        "auroc": Measure("AUROC", "max", None, 0, 1, 0.5, undefined="all records are of one class"),
        "majority_rate": Measure("majority rate", None, "sums", 0, 1),
    }
    main: ClassVar[tuple[str, ...]] = ("auroc", "accuracy")
    each: ClassVar[str] = "accuracy"

    @override
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)

    @override
    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.detach().float().log_softmax(dim=1)

    @override
    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)

    @override
    def scores_of(self, predictions: Tensor) -> Tensor:
        """The logarithms of probabilities; finite, also of one that was rounded to 0."""
        return predictions.clamp_min(torch.finfo(predictions.dtype).tiny).log()

    @override
    def judge(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        classes = scores.shape[1]
        counts = torch.bincount(targets, minlength=classes)
        present = counts.nonzero().flatten().tolist()
        predicted = scores.argmax(dim=1)
        recalls = [(predicted[targets == label] == label).float().mean() for label in present]
        return {
            "loss": nll_loss(scores, targets),
            "accuracy": multiclass_accuracy(predicted, targets, num_classes=classes, average="micro"),
            "balanced_accuracy": torch.stack(recalls).mean(),
            "auroc": _auroc(scores, targets, present),
            "majority_rate": counts.max() / len(targets),
        }

    @override
    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        """How many records there are of each class, and how many of them are recognised."""
        right = targets[scores.argmax(dim=1) == targets]
        counts = [torch.bincount(of, minlength=scores.shape[1]).double() for of in (targets, right)]
        return torch.stack(counts).flatten()

    @override
    def fit_sums(self, sums: Sequence[Any], records: int) -> bool:
        numbers = len(sums) == 2 * self.outputs and all(type(each) is float and each.is_integer() for each in sums)
        counts, right = sums[: self.outputs], sums[self.outputs :]
        return numbers and sum(counts) == records and all(0 <= r <= n for r, n in zip(right, counts, strict=True))

    @override
    def of_sums(self, sums: Tensor) -> dict[str, float]:
        counts, right = sums.reshape(2, -1)
        present = counts > 0
        recalls = right[present] / counts[present]
        return {"balanced_accuracy": recalls.mean().item(), "majority_rate": (counts.max() / counts.sum()).item()}

    @override
    def of_each(self, scores: Tensor, targets: Tensor) -> Tensor:
        return (scores.argmax(dim=1) == targets).float()

    @override
    def resampled(self, measure: str, scores: Tensor, targets: Tensor, often: Tensor) -> Tensor:
        if measure == "loss":
            return weighted_mean(nll_loss(scores, targets, reduction="none"), often)
        if measure == "balanced_accuracy":
            return weighted_recall(scores.argmax(dim=1), targets, scores.shape[1], often)
        if measure != "auroc":
            return super().resampled(measure, scores, targets, often)
        against = [1] if scores.shape[1] == 2 else targets.unique().tolist()
        areas = [weighted_auroc(scores[:, label].exp(), targets == label, often) for label in against]
        return torch.stack(areas).nanmean(dim=0)

    @override
    def questions(self, scores: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Whether a record is of the second of two classes, or, of more, of each of them."""
        chances, names = scores.exp(), self.class_names
        asked = [1] if len(names) == 2 else range(len(names))
        return {called(names[label], "class"): (chances[:, label], targets == label) for label in asked}

    @override
    def choices(self, scores: Tensor) -> Tensor:
        return scores.argmax(dim=1)

    @override
    def undefined(self, measure: str, labels: Sequence[Any]) -> str | None:
        return self.poor(labels) if measure == "auroc" else None

    @override
    def guess(self, values: Mapping[str, float]) -> str | None:
        always = "always guessing the commonest class (majority rate)"
        return always if values.get("accuracy", 1.0) <= values.get("majority_rate", 0.0) else None

    @override
    def parse(self, text: str) -> int:
        if text not in self.class_names:
            raise ValueError(f"one of {', '.join(self.class_names)}")
        return self.class_names.index(text)

    @override
    def parse_label(self, text: str) -> int:
        if not text.isdecimal() or int(text) >= self.outputs:
            raise ValueError(f"a class from 0 to {self.outputs - 1}")
        return int(text)

    @override
    def targets(self, labels: Rows) -> NDArray[Any]:
        return np.asarray(labels, np.int64)

    @override
    def strata(self, labels: Rows) -> NDArray[np.int64]:
        return np.asarray(labels, np.int64)

    @override
    def summary(self, labels: Rows) -> dict[str, Any]:
        counts = np.bincount(self.targets(labels), minlength=self.outputs).tolist()
        majority = round(max(counts) / len(labels), 3) if len(labels) else np.nan
        if len(self.class_names) <= MOST_CLASSES:
            names = [f"class {name}" if name in _OTHERS else name for name in self.class_names]
            return {**dict(zip(names, counts, strict=True)), "majority": majority}
        present = [count for count in counts if count]
        return {
            "classes": len(present),
            "fewest": min(present, default=0),
            "most": max(present, default=0),
            "majority": majority,
        }

    @override
    def poor(self, labels: Rows) -> str | None:
        found = set(labels)
        return f"all of the class {self.class_names[found.pop()]!r}" if len(found) == 1 else None

    @override
    def absent(self, labels: Rows) -> list[str]:
        present = set(labels)
        return [name for label, name in enumerate(self.class_names) if label not in present]

    @override
    def __str__(self) -> str:
        return f"{self.name} of {self.outputs} classes"


def _auroc(scores: Tensor, targets: Tensor, present: list[int]) -> Tensor:
    if len(present) < 2:
        return scores.new_tensor(torch.nan)
    against = [1] if scores.shape[1] == 2 else present
    return torch.stack([binary_auroc(scores[:, label].exp(), (targets == label).long()) for label in against]).mean()
