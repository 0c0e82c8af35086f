"""OrdinalGrades: classes in an order, such as the grades of a disease."""

from typing import ClassVar

from torch import Tensor, nan
from torchmetrics.functional.classification import multiclass_cohen_kappa
from typing_extensions import override

from lit_dist.tasks.classification import Classification
from lit_dist.tasks.resamples import weighted_kappa
from lit_dist.tasks.task import Measure, called


class OrdinalGrades(Classification):
    """Classes in an order: what ``Classification`` has, and the kappa with quadratic weights first.

    A grade that is missed by two counts four times one that is missed by one. Source: Cohen, "Weighted kappa",
    Psychological Bulletin 1968, https://doi.org/10.1037/h0026256. It is NaN where all records, and all predictions, are
    of one grade.

    Example:
        >>> import torch
        >>> scores = torch.eye(3)[[0, 1, 2, 1]].mul(9).log_softmax(1)
        >>> round(OrdinalGrades(3).judge(scores, torch.tensor([0, 1, 2, 2]))["quadratic_kappa"].item(), 3)
        0.8
    """

    name: ClassVar[str] = "ordinal"
    measures: ClassVar[dict[str, Measure]] = {
        "loss": Classification.measures["loss"],
        "quadratic_kappa": Measure("quadratic kappa", "max", None, -1, 1, 0.0, "all are of one grade"),
        **{name: measure for name, measure in Classification.measures.items() if name != "loss"},
    }
    main: ClassVar[tuple[str, ...]] = ("quadratic_kappa", "accuracy")

    @override
    def judge(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        values = super().judge(scores, targets)
        predicted = scores.argmax(dim=1)
        kappa = scores.new_full((), nan)
        if len(targets.unique()) > 1 or not bool((predicted == targets).all()):
            kappa = multiclass_cohen_kappa(predicted, targets, num_classes=self.outputs, weights="quadratic")
        return {name: kappa if name == "quadratic_kappa" else values[name] for name in self.measures}

    @override
    def resampled(self, measure: str, scores: Tensor, targets: Tensor, often: Tensor) -> Tensor:
        if measure != "quadratic_kappa":
            return super().resampled(measure, scores, targets, often)
        return weighted_kappa(scores.argmax(dim=1), targets, self.outputs, often)

    @override
    def questions(self, scores: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Whether a record is of a grade or of a higher one, for each but the lowest."""
        chances = scores.exp()
        return {
            f"at least {called(name, 'grade')}" if grade < self.outputs - 1 else called(name, "grade"): (
                chances[:, grade:].sum(dim=1),
                targets >= grade,
            )
            for grade, name in enumerate(self.class_names)
            if grade
        }

    @override
    def fits(self, other: object) -> bool:
        return isinstance(other, Classification) and other.outputs == self.outputs

    @override
    def __str__(self) -> str:
        return f"{self.name} of {self.outputs} grades"
