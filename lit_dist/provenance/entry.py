"""Entry: one line of the ledger, which says who trained what, and with which weights it began and ended."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from lit_dist.provenance.line import FIRST, MERGED, Line

Outcome = Literal["trained", "cut short", "diverged", "skipped", "absent"]

PASSED: tuple[Outcome, ...] = ("skipped", "absent")
"""Those of visits that have passed without training, or the rest of them."""


@dataclass(frozen=True, slots=True)
class Entry(Line):
    """The record of one visit.

    Attributes:
        run: The run's id; several runs may write to one file.
        visit: The visit's number, from 0.
        cycle: The round over all sites that the visit belongs to, from 0.
        site: The site's name.
        outcome: ``"trained"``; ``"cut short"`` by the end of the run, which a later fit may continue; ``"diverged"``,
            with which the run ended; ``"skipped"``, diverged and left out; or ``"absent"``, left out since the site did
            not answer. After ``"diverged"`` and ``"skipped"`` the weights that went out are those that came in; so they
            are after ``"absent"``, unless the site had answered for a part of the visit.
        images: The number of images that were trained on, counted each time that they were drawn.
        steps: The number of optimizer steps.
        learning_rates_start: The learning rate of each group of parameters in the first step.
        learning_rates_end: The same in the last step.
        sha256_in: The fingerprint of the weights and buffers that came in.
        sha256_out: The fingerprint of the weights and buffers that went out.
        bytes: The size of the weights and buffers, in bytes.
        seconds: The wall-clock time of the visit, in seconds.
        settings: The SHA-256 of the settings that decide what a visit does.
        versions: The versions of the programs, and the number of threads.
        metrics: What the module logged in the visit, and in the validation after it, if there was one.
        origin: The checkpoint of another run that this one began with: its name, and the fingerprint of its weights;
            empty for a run that began by itself, whose lines do not have it.
        parent: ``"merge"`` where the visit began with the last merge, or before the first one with what its round
            began with; empty where it began with the weights of the visit before, whose lines do not have it.
        previous: The hash of the line before.
    """

    run: str
    visit: int
    cycle: int
    site: str
    outcome: Outcome
    images: int
    steps: int
    learning_rates_start: list[float]
    learning_rates_end: list[float]
    sha256_in: str
    sha256_out: str
    bytes: int
    seconds: float
    settings: str
    versions: dict[str, str]
    metrics: dict[str, float | None] = field(default_factory=dict)
    origin: str = ""
    parent: str = ""
    previous: str = FIRST

    facts = ("run", "visit", "cycle", "site", "outcome", "images", "steps", "sha256_in", "sha256_out")
    optional = frozenset({"origin", "parent"})

    @property
    def name(self) -> str:
        """The visit, as text."""
        return f"visit {self.visit} at {self.site!r}"

    def check(self) -> None:
        """Raise ``ValueError`` for values that no run writes."""
        if self.outcome not in get_args(Outcome):
            raise ValueError(f"there is no outcome {self.outcome[:50]!r}")
        if min(self.visit, self.cycle, self.images, self.steps, self.bytes, self.seconds) < 0:
            raise ValueError("it counts something from below 0")
        if self.parent not in ("", MERGED):
            raise ValueError(f"no visit begins with {self.parent[:50]!r}")
