"""What every task has to keep, whichever it is."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_dist.tasks.classification import Classification
from lit_dist.tasks.multilabel import MultiLabel
from lit_dist.tasks.named import named_task
from lit_dist.tasks.ordinal import OrdinalGrades
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.survival import Survival
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

LABELS = {
    "classification": [0, 1, 2, 1, 0, 2, 1],
    "ordinal": [0, 1, 2, 1, 0, 2, 2],
    "multilabel": ["010", "110", "000", "111", "001", "100", "010"],
    "regression": [65.48, 20.0, 33.5, 71.0, 20.0, 48.25, 50.0],
    "survival": ["12.5", "30+", "8", "44", "12.5+", "3+", "20"],
}
TASKS = {name: named_task(name, 3 if name in ("classification", "ordinal", "multilabel") else None) for name in LABELS}


@pytest.fixture(params=LABELS)
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]


def outputs(task: Task) -> Tensor:
    return torch.randn(7, task.outputs, generator=torch.Generator().manual_seed(0))


def targets(task: Task) -> Tensor:
    return torch.from_numpy(task.targets(np.array(LABELS[task.name], object)))


def test_predictions_that_were_saved_are_judged_as_the_outputs_were(task: Task) -> None:
    direct = task.judge(task.scores(outputs(task)), targets(task))
    saved = task.judge(task.scores_of(task.predictions(outputs(task)).float()), targets(task))
    assert list(direct) == list(task.measures)
    assert {name: value.item() for name, value in saved.items()} == pytest.approx(
        {name: value.item() for name, value in direct.items()}, rel=1e-5
    )
    columns = task.predictions(outputs(task)).reshape(7, -1).shape[1]
    assert len(task.columns) == columns


def test_a_step_down_the_loss_makes_it_smaller_and_the_value_judged_is_within_its_range(task: Task) -> None:
    found = outputs(task).requires_grad_()
    before = task.loss(found, targets(task))
    before.backward()
    assert found.grad is not None
    assert task.loss(found.detach() - 0.01 * found.grad, targets(task)) < before
    for name, value in task.judge(task.scores(found), targets(task)).items():
        assert task.measures[name].low <= value.item() <= task.measures[name].high


def test_the_value_of_each_record_has_the_measure_as_its_mean(task: Task) -> None:
    if task.each:
        scores = task.scores(outputs(task))
        mean = task.of_each(scores, targets(task)).mean().item()
        assert mean == pytest.approx(task.judge(scores, targets(task))[task.each].item())


def test_a_label_comes_back_from_a_file(task: Task) -> None:
    assert [task.parse_label(str(label)) for label in LABELS[task.name]] == LABELS[task.name]
    with pytest.raises(ValueError, match=r"\w"):
        task.parse_label("nobody knows")


class Predictions(torch.nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, outputs: Tensor) -> Tensor:
        return self.task.predictions(outputs)


def test_predictions_are_a_program_of_any_number_of_records(task: Task) -> None:
    found = outputs(task)
    shapes = {"outputs": {0: torch.export.Dim("records")}}
    program = torch.export.export(Predictions(task), (found[:2],), dynamic_shapes=shapes).module()
    assert torch.equal(program(found), task.predictions(found))


@pytest.mark.parametrize("text", ["1_000", "1e39", "-1e30", "inf", "nan", "0x1f"])
def test_what_float32_cannot_square_or_a_person_would_not_write_is_no_value(text: str) -> None:
    with pytest.raises(ValueError, match="a number"):
        Regression().parse(text)


def test_strata_are_whole_numbers_and_the_order_of_the_records_does_not_count(task: Task) -> None:
    labels = np.array(LABELS[task.name], object)
    strata = task.strata(labels)
    assert strata.dtype == np.int64
    assert len(set(strata.tolist())) > 1
    assert task.strata(labels[::-1]).tolist() == strata[::-1].tolist()
    assert task.strata(labels[:0]).shape == (0,)


def test_sums_of_a_site_fit_and_others_do_not(task: Task) -> None:
    sums = task.sums(task.scores(outputs(task)), targets(task)).tolist()
    assert task.fit_sums(sums, 7)
    assert not task.fit_sums([*sums, 1.0], 7)
    if sums:
        assert not task.fit_sums(sums, 8)
        assert not task.fit_sums([float("nan"), *sums[1:]], 7)
        assert not task.fit_sums([*sums[:-1], 1e9], 7)


@pytest.mark.parametrize(
    ("name", "poor", "measure"),
    [
        ("classification", [1, 1], "auroc"),
        ("multilabel", ["011", "011"], "auroc"),
        ("regression", [20.0, 20.0], "r2"),
        ("survival", ["3+", "9+"], "c_index"),
    ],
)
def test_what_cannot_be_learnt_or_judged_is_said(name: str, poor: list[object], measure: str) -> None:
    task = TASKS[name]
    assert task.poor(np.array(poor, object))
    assert task.undefined(measure, poor) == task.poor(poor)
    assert task.poor(np.array(LABELS[name], object)) is None
    judged = torch.from_numpy(task.targets(np.array(poor, object)))
    scores = task.scores(outputs(task)[:2])
    assert task.judge(scores, judged)[measure].isnan()


def test_names_and_numbers_of_classes() -> None:
    assert isinstance(named_task("classification", ["well", "ill"]), Classification)
    assert isinstance(named_task("ordinal", 5), OrdinalGrades)
    assert isinstance(named_task("multilabel", 1), MultiLabel)
    assert isinstance(named_task("regression"), Regression)
    assert isinstance(named_task("survival"), Survival)
    with pytest.raises(InputError, match="task='age' is not one of classification, ordinal"):
        named_task("age")
    with pytest.raises(InputError, match="num_classes=1 is not at least 2, which task=ordinal takes"):
        named_task("ordinal", 1)
    assert Classification(3).fits(OrdinalGrades(3)) is False
    assert OrdinalGrades(3).fits(Classification(3))
    assert not Regression().fits(Survival())


def test_questions_are_those_of_the_classes_grades_and_findings() -> None:
    asked = {name: task.questions(task.scores(outputs(task)), targets(task)) for name, task in TASKS.items()}
    assert list(asked["classification"]) == ["class 0", "class 1", "class 2"]
    assert list(asked["ordinal"]) == ["at least grade 1", "grade 2"]
    assert list(asked["multilabel"]) == ["finding 0", "finding 1", "finding 2"]
    assert asked["regression"] == asked["survival"] == {}
    two = Classification(["well", "ill"])
    assert list(two.questions(torch.zeros(1, 2), torch.tensor([1]))) == ["ill"]
    chance, truth = asked["ordinal"]["at least grade 1"]
    assert truth.tolist() == [label > 0 for label in LABELS["ordinal"]]
    assert chance.tolist() == pytest.approx(outputs(TASKS["ordinal"]).softmax(1)[:, 1:].sum(1).tolist())
    assert asked["multilabel"]["finding 1"][1].tolist() == [text[1] == "1" for text in LABELS["multilabel"]]
    assert asked["multilabel"]["finding 1"][0].tolist() == pytest.approx(
        outputs(TASKS["multilabel"]).sigmoid()[:, 1].tolist()
    )
