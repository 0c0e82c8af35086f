"""Task: what is predicted, and how predictions are judged."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lit_dist.tasks.resamples import weighted_mean

Better = Literal["min", "max"]
Rows = Any
"""Labels of records as a table's column holds them."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A value by which predictions are judged.

    Attributes:
        title: Its name in figures and reports.
        better: Whether it improves by falling or by rising; None where it says how hard the records are.
        pooled: How the value of all sites' records follows from the sites': ``"mean"``, as the mean weighted by their
            numbers of records; ``"sums"``, from ``Task.sums``; None, not at all. For the last kind ``mean_<measure>``
            stands beside it, the weighted mean of the sites'.
        low: The least value that there can be.
        high: The greatest value that there can be.
        chance: What predictions get that know nothing, where that is one number.
        undefined: Where it is not defined, as it stands after "where", if there is such a case.
    """

    title: str
    better: Better | None
    pooled: Literal["mean", "sums"] | None = "mean"
    low: float = -np.inf
    high: float = np.inf
    chance: float | None = None
    undefined: str = ""


class Task(ABC):
    """What is predicted, and how predictions are judged.

    Outputs are what a network gives, float, (records, outputs); scores what is judged, such as log-probabilities;
    predictions what a user wants, such as probabilities. Labels are what a table holds of a record; targets are those
    as a tensor. A task of one's own implements what is abstract here.

    Attributes:
        name: What settings call it.
        measures: What it is judged by, ``"loss"`` first, then in the order of importance.
        main: The measures that tables and figures of a study show, the one first by which heuristics are compared.
        each: The measure that is the mean of one value a record.
        least_batch: The least number of records of a batch that the loss teaches something of.
        outputs: The number of a network's outputs.
    """

    name: ClassVar[str]
    measures: ClassVar[dict[str, Measure]]
    main: ClassVar[tuple[str, ...]]
    each: ClassVar[str]
    least_batch: ClassVar[int] = 1
    outputs: int

    @property
    def primary(self) -> str:
        """The measure by which heuristics are compared first."""
        return self.main[0]

    @property
    def at_a_site(self) -> str:
        """The measure for the few records of one site, where the first one may not be defined."""
        return self.each or self.primary

    # -- the network -----------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What training makes smaller, a scalar."""

    @abstractmethod
    def scores(self, outputs: Tensor) -> Tensor:
        """What is judged, of a network's outputs: float32, (records, ...)."""

    @abstractmethod
    def predictions(self, outputs: Tensor) -> Tensor:
        """What a user wants to know of each record: float, (records, columns) or (records,)."""

    @abstractmethod
    def scores_of(self, predictions: Tensor) -> Tensor:
        """What is judged, of predictions, such as those that were saved."""

    # -- judging ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def judge(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The value of each of ``measures``, scalars; NaN where one is not defined for these records."""

    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        """What the measures that are pooled by ``"sums"`` follow from, float64, (sums,); it adds up over sites."""
        return torch.zeros(0, dtype=torch.float64)

    def fit_sums(self, sums: Sequence[Any], records: int) -> bool:
        """Whether values that come from elsewhere can be the sums of so many records."""
        return not sums

    def of_sums(self, sums: Tensor) -> dict[str, float]:
        """The measures that are pooled by ``"sums"``."""
        return {}

    @abstractmethod
    def of_each(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The value of each record whose mean is the measure ``each``, float, (records,)."""

    def resampled(self, measure: str, scores: Tensor, targets: Tensor, often: Tensor) -> Tensor:
        """A measure of many resamples at once, float64, (resamples,); NaN as in ``judge``.

        Args:
            measure: Its name; ``primary`` and ``each`` are among those that every task has a way for.
            scores: Those of the records, (records, ...).
            targets: Those of the records, (records, ...).
            often: How often a resample has drawn each record, float64, (resamples, records).

        Raises:
            NotImplementedError: If the task has no way to judge resamples by it.
        """
        if measure != self.each:
            raise NotImplementedError(f"{self.name} has no way to judge resamples by {measure}")
        return weighted_mean(self.of_each(scores, targets), often)

    def questions(self, scores: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """What is predicted as questions of yes and no, such as whether a record is of a class.

        Returns:
            By what yes is called: its chance, float, (records,), and whether it is so, bool, (records,); nothing where
            no chances are predicted.
        """
        return {}

    def choices(self, scores: Tensor) -> Tensor | None:
        """The class that each record is taken for, int64, (records,); None where it is not of one of several."""
        return None

    def residuals(self, scores: Tensor, targets: Tensor) -> Tensor | None:
        """By how much each record is predicted too high, float, (records,); None where that means nothing."""
        return None

    def undefined(self, measure: str, labels: Sequence[Any]) -> str | None:
        """Why a measure is not defined for records of such labels, as it stands after them; None if it is."""
        return None

    def guess(self, values: Mapping[str, float]) -> str | None:
        """What a model is no better than that knows nothing, by its values; None if it is better."""
        return None

    # -- labels ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def parse(self, text: str) -> Any:
        """The label of a cell of a user's table.

        Raises:
            ValueError: If the text is none; the message says what would be, after "is not".
        """

    def parse_label(self, text: str) -> Any:
        """The label of a cell of a file of ours, such as ``splits.csv`` or ``predictions.csv``.

        Raises:
            ValueError: If the text is none.
        """
        return self.parse(text)

    @abstractmethod
    def targets(self, labels: Rows) -> NDArray[Any]:
        """The targets of labels, (records, ...), in the type that ``loss`` takes."""

    @abstractmethod
    def strata(self, labels: Rows) -> NDArray[np.int64]:
        """By what records are dealt out evenly to sites and splits, (records,)."""

    @abstractmethod
    def summary(self, labels: Rows) -> dict[str, Any]:
        """What a table of sites says of a site's training labels, by column."""

    @abstractmethod
    def poor(self, labels: Rows) -> str | None:
        """Why nothing can be learnt from a site with such training labels, as it stands after them; None if it can."""

    def absent(self, labels: Rows) -> list[str]:
        """The names of what is predicted that no label here is an instance of."""
        return []

    # -- files -----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The columns of ``predictions.csv`` that hold a record's prediction."""

    def answers(self, predictions: Tensor) -> dict[str, Any]:
        """What people are told of each record, by the names of a table's columns; predictions, (records, ...)."""
        values = predictions.reshape(len(predictions), -1).float().cpu().numpy()
        return dict(zip(self.columns, values.T, strict=True))

    def fits(self, other: "Task") -> bool:
        """Whether a model of another task can be trained and judged by this one's data."""
        return (self.name, self.outputs) == (other.name, other.outputs)

    def __str__(self) -> str:
        return self.name


def called(name: str, what: str) -> str:
    """The name of a class; of one that is a number, what it is the number of, too."""
    return f"{what} {name}" if name.isdecimal() else name


class ClassesTask(Task):
    """A task of several named things, with an output each.

    Args:
        class_names: Their names, or how many there are.
    """

    def __init__(self, class_names: Sequence[str] | int = 2) -> None:
        self._names = None if isinstance(class_names, int) else list(class_names)
        self.outputs = class_names if isinstance(class_names, int) else len(class_names)

    @property
    def class_names(self) -> list[str]:
        """The names; their numbers where they have none."""
        # Made where they are asked for: a run's settings may come from elsewhere, and name any number.
        return [str(number) for number in range(self.outputs)] if self._names is None else self._names

    def named(self, class_names: Sequence[str]) -> Self:
        """The same task with other names of its classes."""
        task = copy(self)
        task._names = list(class_names)
        return task

    def names_of(self, probabilities: Tensor) -> str:
        """The name of what is predicted of one record by its probabilities, (classes,): the most likely class."""
        return self.class_names[int(probabilities.argmax())]

    @property
    @override
    def columns(self) -> list[str]:
        return [f"probability_{number}" for number in range(self.outputs)]

    @override
    def answers(self, predictions: Tensor) -> dict[str, Any]:
        """The name of what is predicted, and the probability of each class under its name."""
        found = {"prediction": [self.names_of(each) for each in predictions]}
        return found | dict(zip(self.class_names, super().answers(predictions).values(), strict=True))


class ValueTask(Task):
    """A task of one number a record, which the network gives as it is."""

    outputs = 1

    @override
    def scores(self, outputs: Tensor) -> Tensor:
        return self.predictions(outputs.detach()).float()

    @override
    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.reshape(outputs.shape[0])  # len() would fix the number where a program is exported

    @override
    def scores_of(self, predictions: Tensor) -> Tensor:
        return predictions.reshape(len(predictions))
