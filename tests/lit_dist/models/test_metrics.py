import math

import pytest
import torch

from lit_dist.models.metrics import METRICS, RegressionReport, SiteReport, judge, print_reports


def brute_auroc(scores: torch.Tensor, positive: torch.Tensor) -> float:
    """The share of pairs of a positive and a negative that are in the right order; a tie is half right."""
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    return ((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean().item()


@pytest.mark.parametrize("classes", [2, 5])
def test_values_equal_their_definitions(classes: int) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, classes, (60,))
    logits = torch.randn(60, classes) + torch.nn.functional.one_hot(labels, classes)
    values = judge(logits.log_softmax(1), labels)
    assert tuple(values) == METRICS
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
    values = judge(logits.log_softmax(1), torch.tensor([0, 1, 0]))
    assert values["balanced_accuracy"].item() == 0.5
    assert 0 <= values["auroc"].item() <= 1


def test_one_class_alone_has_no_auroc() -> None:
    values = judge(torch.tensor([[0.6, 0.4], [0.7, 0.3]]).log(), torch.tensor([0, 0]))
    assert math.isnan(values["auroc"].item())
    assert (values["accuracy"].item(), values["majority_rate"].item()) == (1.0, 1.0)


def test_a_report_over_batches_equals_one_over_all() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(10, 3), torch.randint(0, 3, (10,))
    report = SiteReport()
    report.update(logits[:7], labels[:7])
    report.update(logits[7:], labels[7:])
    expected = judge(logits.log_softmax(1), labels)
    assert all(torch.equal(value, expected[name]) for name, value in report.compute().items())


@pytest.mark.parametrize("outputs_shape", [(10,), (10, 1)])
@pytest.mark.parametrize("labels_shape", [(10,), (10, 1)])
def test_errors_of_values_over_unequal_batches_equal_their_definitions(
    outputs_shape: tuple[int, ...], labels_shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    outputs, labels = torch.randn(outputs_shape, requires_grad=True), torch.randn(labels_shape)
    report = RegressionReport()
    report.update(outputs[:7], labels[:7])
    report.update(outputs[7:], labels[7:])
    errors = outputs.detach().flatten() - labels.flatten()
    assert {name: value.item() for name, value in report.compute().items()} == pytest.approx(
        {"loss": errors.pow(2).mean().item(), "mean_absolute_error": errors.abs().mean().item()}
    )
    report.reset()
    report.update(torch.tensor([1.0]), torch.tensor([3]))
    assert {name: value.item() for name, value in report.compute().items()} == {"loss": 4, "mean_absolute_error": 2}


def test_a_table_says_what_its_numbers_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    one = judge(torch.tensor([[0.8, 0.2], [0.7, 0.3]]).log(), torch.tensor([0, 0]))
    good = judge(torch.tensor([[0.8, 0.2], [0.3, 0.7]]).log(), torch.tensor([0, 1]))
    print_reports({"mgh": one, "ucsf": good}, "test images", {"mgh": 2, "ucsf": 2})
    text = capsys.readouterr().out
    assert "undefined" in text
    assert "The AUROC is undefined where all images are of one class: mgh\n" in text
    assert "No better than always guessing the commonest class (majority rate): mgh\n" in text
