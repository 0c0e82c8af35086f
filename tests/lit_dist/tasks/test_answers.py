"""What people are told of a record, by task."""

import pytest
import torch

from lit_dist.tasks.classification import Classification
from lit_dist.tasks.multilabel import MultiLabel
from lit_dist.tasks.ordinal import OrdinalGrades
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.survival import Survival
from lit_dist.tasks.task import ClassesTask

PROBABILITIES = torch.tensor([[0.25, 0.75], [0.625, 0.375], [0.75, 0.75]])


@pytest.mark.parametrize("kind", [Classification, OrdinalGrades])
def test_of_classes_the_likeliest_is_named_and_each_has_a_column(kind: type[ClassesTask]) -> None:
    found = kind(2).named(["none", "mild"]).answers(PROBABILITIES[:2])
    assert list(found) == ["prediction", "none", "mild"]
    assert found["prediction"] == ["mild", "none"]
    assert found["mild"].tolist() == [0.75, 0.375]


def test_of_findings_all_that_are_likely_are_named() -> None:
    found = MultiLabel(["cataract", "glaucoma"]).answers(torch.cat([PROBABILITIES, torch.zeros(1, 2)]))
    assert found["prediction"] == ["glaucoma", "cataract", "cataract; glaucoma", "none"]


def test_a_value_is_told_as_it_is() -> None:
    assert Regression().answers(torch.tensor([65.5, 7.0]))["value"].tolist() == [65.5, 7.0]
    assert list(Survival().answers(torch.zeros(2))) == ["log_risk"]
