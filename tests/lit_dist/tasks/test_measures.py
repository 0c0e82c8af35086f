"""Each measure beside its definition, written out."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lit_dist.tasks.classification import Classification
from lit_dist.tasks.multilabel import MultiLabel
from lit_dist.tasks.ordinal import OrdinalGrades
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.survival import Survival


def brute_auroc(scores: torch.Tensor, positive: torch.Tensor) -> float:
    """The share of pairs of a positive and a negative that are in the right order; a tie is half right."""
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    return ((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean().item()


@pytest.mark.parametrize("classes", [2, 5])
def test_classification(classes: int) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, classes, (60,))
    logits = torch.randn(60, classes) + torch.nn.functional.one_hot(labels, classes)
    values = Classification(classes).judge(logits.log_softmax(1), labels)
    right = logits.argmax(1) == labels
    assert values["loss"].item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    assert values["accuracy"].item() == pytest.approx(right.float().mean().item())
    recalls = [right[labels == label].float().mean().item() for label in range(classes)]
    assert values["balanced_accuracy"].item() == pytest.approx(sum(recalls) / classes)
    assert values["majority_rate"].item() == pytest.approx(labels.bincount().max().item() / 60)
    scores = logits.softmax(1)
    against = [1] if classes == 2 else range(classes)
    auroc = sum(brute_auroc(scores[:, label], labels == label) for label in against) / len(against)
    assert values["auroc"].item() == pytest.approx(auroc, abs=1e-6)


def test_classes_that_do_not_occur_are_left_out_of_the_means() -> None:
    logits = torch.tensor([[3.0, 1, 0], [0, 2, 9], [2, 0, 0]])
    values = Classification(3).judge(logits.log_softmax(1), torch.tensor([0, 1, 0]))
    assert values["balanced_accuracy"].item() == 0.5
    assert 0 <= values["auroc"].item() <= 1


def test_quadratic_kappa() -> None:
    torch.manual_seed(1)
    true, scores = torch.randint(0, 5, (80,)), torch.randn(80, 5).log_softmax(1)
    predicted = scores.argmax(1)
    seen = np.mean([(a - b) ** 2 for a, b in zip(true.tolist(), predicted.tolist(), strict=True)])
    chance = np.mean([(a - b) ** 2 for a in true.tolist() for b in predicted.tolist()])
    assert OrdinalGrades(5).judge(scores, true)["quadratic_kappa"].item() == pytest.approx(1 - seen / chance, abs=1e-6)


def test_multilabel() -> None:
    torch.manual_seed(2)
    logits, present = torch.randn(50, 3), torch.rand(50, 3) < 0.4
    present[:, 2] = True  # of which there is no AUROC
    values = MultiLabel(3).judge(logits, present.float())
    areas = [brute_auroc(logits[:, finding], present[:, finding]) for finding in (0, 1)]
    assert values["auroc"].item() == pytest.approx(sum(areas) / 2, abs=1e-6)
    right = (logits > 0) == present
    assert values["accuracy"].item() == pytest.approx(right.float().mean().item())
    assert values["exact_match"].item() == pytest.approx(np.mean([all(row) for row in right.tolist()]))


@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32)), min_size=3, max_size=30))
def test_regression(pairs: list[tuple[float, float]]) -> None:
    predicted, true = (np.array(each) for each in zip(*pairs, strict=True))
    values = Regression().judge(torch.tensor(predicted).float(), torch.tensor(true).float())
    assert values["loss"].item() == pytest.approx(np.mean((predicted - true) ** 2), rel=1e-4, abs=1e-6)
    assert values["mean_absolute_error"].item() == pytest.approx(np.mean(np.abs(predicted - true)), rel=1e-4)
    if true.std() > 1:
        r2 = 1 - np.sum((predicted - true) ** 2) / np.sum((true - true.mean()) ** 2)
        assert values["r2"].item() == pytest.approx(r2, rel=1e-4, abs=1e-4)
    if true.std() > 1 and predicted.std() > 1:
        assert values["pearson"].item() == pytest.approx(stats.pearsonr(predicted, true).statistic, abs=1e-4)


def test_regression_of_one_value_has_no_correlation() -> None:
    values = Regression().judge(torch.tensor([1.0, 2.0, 3.0]), torch.full((3,), 0.1))
    assert math.isnan(values["r2"])
    assert math.isnan(values["pearson"])


def brute_concordance(risks: list[float], times: list[float], events: list[bool]) -> float:
    """Over all pairs of which it is known who came first."""
    right, pairs = 0.0, 0
    for one, other in combinations(range(len(risks)), 2):
        first, last = (
            (one, other) if (times[one], not events[one]) <= (times[other], not events[other]) else (other, one)
        )
        both = times[first] == times[last] and events[first] == events[last]
        if events[first] and not both:
            pairs += 1
            right += 1.0 if risks[first] > risks[last] else 0.5 if risks[first] == risks[last] else 0.0
    return right / pairs if pairs else math.nan


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.booleans()), min_size=2, max_size=25))
def test_concordance(rows: list[tuple[int, int, bool]]) -> None:
    risks, times, events = ([*each] for each in zip(*rows, strict=True))
    targets = torch.tensor([[float(time), float(event)] for time, event in zip(times, events, strict=True)])
    found = Survival().judge(torch.tensor(risks).float(), targets)["c_index"].item()
    expected = brute_concordance(risks, times, events)
    assert found == pytest.approx(expected, nan_ok=True)


def test_partial_likelihood() -> None:
    torch.manual_seed(3)
    risks, times, events = torch.randn(9, 1), torch.rand(9), torch.rand(9) < 0.6
    expected = 0.0
    for place in events.nonzero().flatten().tolist():
        still_there = [risks[other].exp().item() for other in range(9) if times[other] >= times[place]]
        expected -= risks[place].item() - math.log(sum(still_there))
    targets = torch.stack([times, events.float()], dim=1)
    assert Survival().loss(risks, targets).item() == pytest.approx(expected / int(events.sum()), rel=1e-5)


def test_a_batch_without_an_event_teaches_nothing() -> None:
    risks = torch.zeros(3, 1, requires_grad=True)
    Survival().loss(risks, torch.tensor([[1.0, 0], [2, 0], [3, 0]])).backward()
    assert risks.grad is not None
    assert not risks.grad.any()
