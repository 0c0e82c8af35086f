"""What a model's validation and test have found, for one site or for all sites together."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_dist.tasks.task import Measure, Task
from lit_dist.utils.terminal_table import print_table

MEAN = "mean_"
"""What stands before a measure's name where it is the weighted mean of the sites' values."""


def pool(values: Sequence[float], sizes: Sequence[int]) -> float:
    """The mean over sites, weighted by their numbers of records.

    Example:
        >>> pool([1.0, 4.0], [2, 1])
        2.0
    """
    return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)


def pool_named(values: Sequence[Mapping[str, float]], sizes: Sequence[int]) -> dict[str, float]:
    """Values of all sites from those of each that every site has: the means weighted by their numbers of records.

    One that is such a mean already (``mean_<measure>``) is over the sites where it is defined.

    Example:
        >>> pool_named([{"loss": 1.0, "mean_auroc": math.nan}, {"loss": 4.0, "mean_auroc": 0.5}], [2, 1])
        {'loss': 2.0, 'mean_auroc': 0.5}
    """
    found = {}
    for name in values[0]:
        pairs = [(each[name], size) for each, size in zip(values, sizes, strict=True) if name in each]
        if len(pairs) == len(values):
            if is_mean(name):
                pairs = [pair for pair in pairs if not math.isnan(pair[0])]
            found[name] = pool(*zip(*pairs, strict=True)) if pairs else math.nan
    return found


_STAGE = re.compile(r"(val(?:id(?:ation)?)?|test|eval|dev)[_/]")


def mean_name(name: str) -> str:
    """The name of the mean over sites of a value that was logged under a name.

    Example:
        >>> mean_name("val_auroc"), mean_name("val/auroc"), mean_name("auroc")
        ('val_mean_auroc', 'val/mean_auroc', 'mean_auroc')
    """
    stage = _STAGE.match(name)
    place = stage.end() if stage else 0
    return name[:place] + MEAN + name[place:]


def is_mean(name: str) -> bool:
    """Whether a name is that of a mean over sites."""
    stage = _STAGE.match(name)
    return name.startswith(MEAN, stage.end() if stage else 0)


def pool_measures(
    task: Task, values: Sequence[Mapping[str, float]], sizes: Sequence[int], sums: Sequence[Tensor]
) -> dict[str, float]:
    """What is known of all sites' records from each site's values, in a simulation and in a federation alike.

    Args:
        task: What they are judged by.
        values: The measures of each site.
        sizes: The number of records of each site, positive.
        sums: ``Task.sums`` of each site; empty where they are not known.

    Returns:
        Each measure that every site has and that follows from them; of the others their mean over the sites where they
        are defined, as ``mean_<measure>``.
    """
    found = {}
    for name, measure in task.measures.items():
        if measure.pooled == "sums" or not all(name in each for each in values):
            continue
        defined = [(each[name], n) for each, n in zip(values, sizes, strict=True) if not math.isnan(each[name])]
        if measure.pooled is not None:
            defined = [(each[name], n) for each, n in zip(values, sizes, strict=True)]
        mean = pool(*zip(*defined, strict=True)) if defined else math.nan
        found[name if measure.pooled else MEAN + name] = mean
    return found | (task.of_sums(reduce(torch.add, sums)) if sums else {})  # one after the other, for the last bit


def logged_measures(task: Task) -> list[str]:
    """The names of all values that a validation logs, those of all sites among them."""
    return [*task.measures, *(MEAN + name for name, each in task.measures.items() if each.pooled is None)]


def better(task: Task, name: str) -> str | None:
    """Whether a value that is logged improves by falling (``"min"``) or rising (``"max"``); None if by neither."""
    measure = task.measures.get(name) or task.measures.get(name.removeprefix(MEAN))
    return measure.better if measure else None


class SiteReport(Metric):
    """Collects the outputs of an epoch, over all processes, and judges them at its end.

    Args:
        task: What they are judged by.

    Example:
        >>> import torch
        >>> from lit_dist.tasks.classification import Classification
        >>> report = SiteReport(Classification(2))
        >>> report.update(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        >>> report.compute()["accuracy"].item()
        1.0
    """

    full_state_update = False
    size = 0  # the number of records that compute() has judged
    sums: Tensor  # of what compute() has judged
    scores: list[Tensor]
    targets: list[Tensor]

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            outputs: A network's, float, (records, outputs).
            targets: As the task has them.
        """
        self.scores.append(self.task.scores(outputs))
        self.targets.append(targets)

    def compute(self) -> dict[str, Tensor]:
        """The measures of all batches since the last reset."""
        scores, targets = dim_zero_cat(self.scores), dim_zero_cat(self.targets)
        self.size = len(targets)
        self.sums = self.task.sums(scores, targets).cpu()
        return self.task.judge(scores, targets)


def shown(value: float, measure: Measure) -> str:
    """A value as tables have it.

    Example:
        >>> from lit_dist.tasks.classification import Classification
        >>> shown(0.5, Classification.measures["accuracy"]), shown(float("nan"), Classification.measures["auroc"])
        ('0.500', 'undefined')
    """
    return "undefined" if measure.undefined and math.isnan(value) else f"{value:.3f}"


def print_reports(
    task: Task, reports: Mapping[str, Mapping[str, Tensor]], title: str, sizes: Mapping[str, int]
) -> None:
    """Print a table with one row a report, by its name, and what its numbers do not say."""
    metrics = list(task.measures)
    columns = ["site", "records", *(metric.replace("_", " ") for metric in metrics)]
    values = {name: {metric: value.item() for metric, value in report.items()} for name, report in reports.items()}
    rows = [
        [name, str(sizes[name]), *(shown(row[metric], task.measures[metric]) for metric in metrics)]
        for name, row in values.items()
    ]
    print_table(title, columns, rows)
    for line in remarks(task, values):
        print(line)


def remarks(task: Task, values: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What measures do not say by themselves, as lines: which are not defined where, and what a guess is as good as.

    Args:
        task: What the values are of.
        values: The measures, by what they are of.
    """
    lines = []
    for metric, measure in task.measures.items():
        undefined = [name for name, row in values.items() if math.isnan(row.get(metric, 0.0))]
        if undefined:
            lines.append(f"The {measure.title} is undefined where {measure.undefined}: {', '.join(undefined)}")
    guesses: dict[str, list[str]] = {}
    for name, row in values.items():
        if guess := task.guess(row):
            guesses.setdefault(guess, []).append(name)
    return [*lines, *(f"No better than {guess}: {', '.join(names)}" for guess, names in guesses.items())]
