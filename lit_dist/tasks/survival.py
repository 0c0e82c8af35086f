"""Survival: how long a record is observed, and whether the event came."""

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lit_dist.tasks.resamples import weighted_concordance
from lit_dist.tasks.task import Measure, Rows, ValueTask

_TIME = re.compile(r"\d+(\.\d+)?\+?")


class Survival(ValueTask):
    """The time to an event, which some records were not observed long enough for.

    A label is a text: the time, with a ``+`` behind it where the record was censored then (``"12.5"``, ``"30+"``).
    Targets are float32, (records, 2): the time, and 1 where the event came, else 0. An output is the logarithm of a
    relative risk, (records, 1), and so is a prediction, (records,). The loss is Cox's negative partial log-likelihood
    by event, with Breslow's way for ties, within the batch. The concordance is Harrell's C-index: the share of pairs,
    of which it is known who came first, that the risks put in the right order; a tie of risks is half right. It is NaN
    where there is no such pair.

    Sources: Cox, "Regression models and life-tables", JRSS B 1972; Harrell et al., "Evaluating the yield of medical
    tests", JAMA 1982, https://doi.org/10.1001/jama.1982.03320430047030.

    Example:
        >>> targets = torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
        >>> Survival().judge(torch.tensor([2.0, 0.0, 1.0]), targets)["c_index"].item()
        1.0
    """

    name: ClassVar[str] = "survival"
    measures: ClassVar[dict[str, Measure]] = {
        "loss": Measure("partial likelihood", "min", None, low=0),
        "c_index": Measure("C-index", "max", None, 0, 1, 0.5, "no event comes before another time"),
        "event_rate": Measure("event rate", None, low=0, high=1),
    }
    main: ClassVar[tuple[str, ...]] = ("c_index",)
    each: ClassVar[str] = ""
    least_batch: ClassVar[int] = 2

    @override
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        risks = outputs.reshape(len(targets))
        times, events = targets[:, 0], targets[:, 1].to(risks.dtype)
        still_there = times[None, :] >= times[:, None]
        known = torch.where(still_there, risks[None, :], -torch.inf).logsumexp(dim=1)
        # A batch without an event teaches nothing; its loss is a zero that has a gradient.
        return ((known - risks) * events).sum() / events.sum().clamp_min(1)

    @override
    def judge(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {
            "loss": self.loss(scores, targets),
            "c_index": _concordance(scores, targets),
            "event_rate": targets[:, 1].float().mean(),
        }

    @override
    def of_each(self, scores: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError("a concordance is one of pairs")

    @override
    def resampled(self, measure: str, scores: Tensor, targets: Tensor, often: Tensor) -> Tensor:
        if measure != "c_index":
            return super().resampled(measure, scores, targets, often)
        return weighted_concordance(scores, targets[:, 0], targets[:, 1] > 0.5, often)

    @override
    def undefined(self, measure: str, labels: Any) -> str | None:
        return self.poor(labels) if measure == "c_index" else None

    @override
    def guess(self, values: Mapping[str, float]) -> str | None:
        return "a coin (C-index not above .5)" if values.get("c_index", 1.0) <= 0.5 else None

    @override
    def parse(self, text: str) -> str:
        if not _TIME.fullmatch(text) or float(text.removesuffix("+")) > 1e30:
            raise ValueError("a time from 0, with a + behind it where it is censored")
        return text

    @override
    def targets(self, labels: Rows) -> NDArray[Any]:
        pairs = [(float(text.removesuffix("+")), not text.endswith("+")) for text in labels]
        return np.array(pairs, np.float32).reshape(-1, 2)

    @override
    def strata(self, labels: Rows) -> NDArray[np.int64]:
        """The half of the times that a record is in, with and without the event."""
        times, events = self.targets(labels).T
        middle = np.median(times) if len(times) else 0
        strata: NDArray[np.int64] = 2 * events.astype(np.int64) + (times > middle)
        return strata

    @override
    def summary(self, labels: Rows) -> dict[str, Any]:
        times, events = self.targets(labels).T
        return {"events": int(events.sum()), "median time": float(np.median(times)) if len(times) else math.nan}

    @override
    def poor(self, labels: Rows) -> str | None:
        return None if any(not text.endswith("+") for text in labels) else "without an event"

    @property
    @override
    def columns(self) -> list[str]:
        return ["log_risk"]


def _concordance(risks: Tensor, targets: Tensor) -> Tensor:
    """Row by row, since all pairs at once would need memory for the square of the records."""
    times, events = targets[:, 0], targets[:, 1] > 0.5
    right = risks.new_zeros((), dtype=torch.float64)
    pairs = 0
    for place in events.nonzero().flatten().tolist():
        later = (times > times[place]) | ((times == times[place]) & ~events)
        difference = risks[place] - risks[later]
        right = right + (difference > 0).sum() + 0.5 * (difference == 0).sum()
        pairs += len(difference)
    return (right / pairs).float() if pairs else risks.new_full((), math.nan)
