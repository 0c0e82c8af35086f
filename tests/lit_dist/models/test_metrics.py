import math

import pytest
import torch

from lit_dist.models.metrics import SiteReport, better, logged_measures, pool_measures, print_reports
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.ordinal import OrdinalGrades
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.task import Task

SITES = (7, 1, 12)


def records(task: Task, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    outputs = torch.randn(count, task.outputs)
    targets = torch.randn(count) if task.outputs == 1 else torch.randint(0, task.outputs, (count,))
    return task.scores(outputs), targets


def test_a_report_over_batches_equals_one_over_all() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(10, 3), torch.randint(0, 3, (10,))
    report = SiteReport(Classification(3))
    report.update(logits[:7], labels[:7])
    report.update(logits[7:], labels[7:])
    expected = Classification(3).judge(logits.log_softmax(1), labels)
    assert all(torch.equal(value, expected[name]) for name, value in report.compute().items())


@pytest.mark.parametrize("task", [Classification(3), OrdinalGrades(3), Regression()], ids=str)
def test_what_follows_from_the_sites_is_what_all_records_together_give(task: Task) -> None:
    sites = [records(task, count, seed) for seed, count in enumerate(SITES)]
    values = [{name: value.item() for name, value in task.judge(*site).items()} for site in sites]
    found = pool_measures(task, values, SITES, [task.sums(*site) for site in sites])
    together = task.judge(*(torch.cat(part) for part in zip(*sites, strict=True)))
    exact = {name for name, measure in task.measures.items() if measure.pooled}
    assert {name: found[name] for name in exact} == pytest.approx(
        {name: together[name].item() for name in exact}, rel=1e-5
    )
    for name in task.measures.keys() - exact:  # an AUROC, say, is undefined at the site of one record
        defined = [(each[name], n) for each, n in zip(values, SITES, strict=True) if not math.isnan(each[name])]
        mean = sum(value * n for value, n in defined) / sum(n for _, n in defined)
        assert found[f"mean_{name}"] == pytest.approx(mean)
    assert set(found) == set(logged_measures(task)) - (task.measures.keys() - exact)
    assert {better(task, f"mean_{name}") for name in task.measures.keys() - exact} <= {"max"}


def test_a_table_says_what_its_numbers_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    task = Classification(2)
    one = task.judge(torch.tensor([[0.8, 0.2], [0.7, 0.3]]).log(), torch.tensor([0, 0]))
    good = task.judge(torch.tensor([[0.8, 0.2], [0.3, 0.7]]).log(), torch.tensor([0, 1]))
    print_reports(task, {"mgh": one, "ucsf": good}, "test records", {"mgh": 2, "ucsf": 2})
    text = capsys.readouterr().out
    assert "undefined" in text
    assert "The AUROC is undefined where all records are of one class: mgh\n" in text
    assert "No better than always guessing the commonest class (majority rate): mgh\n" in text
