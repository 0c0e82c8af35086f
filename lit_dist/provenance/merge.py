"""Merge: one line of the ledger, which says of which visits' weights others were made."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from lit_dist.provenance.line import FIRST, MERGED, Line

Weighting = Literal["images", "equal"]


@dataclass(frozen=True, slots=True)
class Merge(Line):
    """The record of a merge: weights that were made of those of several visits.

    Attributes:
        run: The run's id.
        kind: ``"merge"``.
        cycle: The cycle that it ends.
        visits: The visits whose weights were merged, in their order; those that were left out are not among them.
        parents: The fingerprint of the weights that each went out with.
        weights: What each counts: its weights were multiplied by this, divided by the sum.
        weighting: ``"images"``, if that is the number of images it was trained on; or ``"equal"``.
        sha256_out: The fingerprint of the merged weights and buffers.
        bytes: Their size, in bytes.
        seconds: The wall-clock time that it took, in seconds.
        settings: The SHA-256 of the settings that decide what a visit does.
        versions: The versions of the programs, and the number of threads.
        metrics: What was logged in the validation after it, if there was one.
        previous: The hash of the line before.
    """

    run: str
    kind: str
    cycle: int
    visits: list[int]
    parents: list[str]
    weights: list[float]
    weighting: str
    sha256_out: str
    bytes: int
    seconds: float
    settings: str
    versions: dict[str, str]
    metrics: dict[str, float | None] = field(default_factory=dict)
    previous: str = FIRST

    facts = ("run", "cycle", "visits", "parents", "weights", "weighting", "sha256_out")

    @property
    def name(self) -> str:
        """The merge, as text."""
        return f"the merge that ends cycle {self.cycle}"

    def check(self) -> None:
        """Raise ``ValueError`` for values that no run writes."""
        if self.kind != MERGED or self.weighting not in get_args(Weighting):
            raise ValueError("it is not a merge that a run writes")
        if not len(self.visits) == len(self.parents) == len(self.weights):
            raise ValueError("its visits, parents and weights are not as many")
        if min(self.cycle, self.bytes, self.seconds, *self.visits) < 0 or not all(each > 0 for each in self.weights):
            raise ValueError("it counts something from below 0")
