"""MultiLabel: any number of findings a record."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from torchmetrics.functional.classification import binary_auroc
from typing_extensions import override

from lit_dist.tasks.resamples import weighted_auroc, weighted_mean
from lit_dist.tasks.task import ClassesTask, Measure, Rows, called


class MultiLabel(ClassesTask):
    """Any number of findings a record, each present or not.

    A label is a text with one ``0`` or ``1`` a finding, such as ``"0110"``; targets are float32, (records, findings),
    outputs a logit a finding, and predictions its probability. The loss is the mean binary cross-entropy. The AUROC is
    the mean over the findings that some records have and others have not; NaN where there is none. Accuracy is the
    share of single findings that are right; an exact match has all of a record's right.

    Args:
        class_names: The names of the findings, or how many there are.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.2], [0.3, 0.6]])
        >>> task = MultiLabel(["cataract", "glaucoma"])
        >>> values = task.judge(task.scores_of(probabilities), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        >>> values["accuracy"].item(), values["exact_match"].item(), values["auroc"].item()
        (0.75, 0.5, 1.0)
    """

    name: ClassVar[str] = "multilabel"
    measures: ClassVar[dict[str, Measure]] = {
        "loss": Measure("cross-entropy", "min", low=0),
        "auroc": Measure("mean AUROC", "max", None, 0, 1, 0.5, "no finding is one that some have and others have not"),
        "accuracy": Measure("accuracy of single findings", "max", low=0, high=1),
        "exact_match": Measure("exact match", "max", low=0, high=1),
    }
    main: ClassVar[tuple[str, ...]] = ("auroc", "accuracy")
    each: ClassVar[str] = "accuracy"

    @override
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))

    @override
    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.detach().float()

    @override
    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    @override
    def names_of(self, probabilities: Tensor) -> str:
        """The findings that are more likely than not, with a ``;`` between them; ``none`` where there is none."""
        likely = (probabilities > 0.5).tolist()
        return "; ".join(name for name, found in zip(self.class_names, likely, strict=True) if found) or "none"

    @override
    def scores_of(self, predictions: Tensor) -> Tensor:
        tiny = torch.finfo(predictions.dtype).tiny
        return predictions.clamp_min(tiny).log() - (1 - predictions).clamp_min(tiny).log()

    @override
    def judge(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        present = targets > 0.5
        right = (scores > 0) == present
        varied = [n for n in range(scores.shape[1]) if 0 < int(present[:, n].sum()) < len(present)]
        areas = [binary_auroc(logsigmoid(scores[:, n]).exp(), present[:, n].long()) for n in varied]
        return {
            "loss": binary_cross_entropy_with_logits(scores, targets.to(scores.dtype)),
            "auroc": torch.stack(areas).mean() if areas else scores.new_full((), torch.nan),
            "accuracy": right.float().mean(),
            "exact_match": right.all(dim=1).float().mean(),
        }

    @override
    def of_each(self, scores: Tensor, targets: Tensor) -> Tensor:
        return ((scores > 0) == (targets > 0.5)).float().mean(dim=1)

    @override
    def resampled(self, measure: str, scores: Tensor, targets: Tensor, often: Tensor) -> Tensor:
        if measure == "loss":
            of_findings = binary_cross_entropy_with_logits(scores, targets.to(scores.dtype), reduction="none")
            return weighted_mean(of_findings.mean(dim=1), often)
        if measure == "exact_match":
            return weighted_mean(((scores > 0) == (targets > 0.5)).all(dim=1), often)
        if measure != "auroc":
            return super().resampled(measure, scores, targets, often)
        chances, present = logsigmoid(scores).exp(), targets > 0.5
        areas = [weighted_auroc(chances[:, n], present[:, n], often) for n in range(scores.shape[1])]
        return torch.stack(areas).nanmean(dim=0)

    @override
    def questions(self, scores: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Whether a record has each of the findings."""
        chances = logsigmoid(scores).exp()
        names = [called(name, "finding") for name in self.class_names]
        return {name: (chances[:, n], targets[:, n] > 0.5) for n, name in enumerate(names)}

    @override
    def undefined(self, measure: str, labels: Any) -> str | None:
        return self.poor(labels) if measure == "auroc" else None

    @override
    def guess(self, values: Mapping[str, float]) -> str | None:
        return "a coin (AUROC not above .5)" if values.get("auroc", 1.0) <= 0.5 else None

    @override
    def parse(self, text: str) -> str:
        if len(text) != self.outputs or set(text) - {"0", "1"}:
            raise ValueError(f"a text of {self.outputs} times 0 or 1")
        return text

    @override
    def targets(self, labels: Rows) -> NDArray[Any]:
        return np.array([[each == "1" for each in text] for text in labels], np.float32).reshape(-1, self.outputs)

    @override
    def strata(self, labels: Rows) -> NDArray[np.int64]:
        """The rarest finding of each record, from 1; 0 where there is none."""
        present = self.targets(labels) > 0
        often = np.where(present.any(axis=0), present.sum(axis=0), len(present) + 1)
        rarest = np.where(present, often, len(present) + 2).argmin(axis=1) + 1
        return np.where(present.any(axis=1), rarest, 0).astype(np.int64)

    @override
    def summary(self, labels: Rows) -> dict[str, Any]:
        counts = self.targets(labels).sum(axis=0).astype(int).tolist()
        return {f"with {name}": count for name, count in zip(self.class_names, counts, strict=True)}

    @override
    def poor(self, labels: Rows) -> str | None:
        present = self.targets(labels).mean(axis=0) if len(labels) else np.zeros(self.outputs)
        return None if ((present > 0) & (present < 1)).any() else "without a finding that some have and others have not"

    @override
    def absent(self, labels: Rows) -> list[str]:
        present = np.any(self.targets(labels), axis=0).tolist()
        return [name for name, found in zip(self.class_names, present, strict=True) if not found]

    @override
    def __str__(self) -> str:
        return f"{self.name} of {self.outputs} findings"
