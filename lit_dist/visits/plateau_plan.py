"""PlateauPlan: visits that last as long as was decided on the way. Nothing here knows of Lightning."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from lit_dist.visits.epoch_plan import EpochPlan, Stretch


@dataclass(frozen=True, slots=True)
class PlateauPlan(EpochPlan):
    """Lays an itinerary out over the trainer's epochs, as a pure function of the epoch and of recorded decisions.

    Attributes:
        starts: The epoch that each visit begins with, as far as it is known.
    """

    starts: tuple[int, ...] = (0,)

    @property
    def epochs_a_cycle(self) -> int:
        """One: the plateau is looked for after each epoch."""
        return 1

    def epoch(self, number: int, batches_a_step: int = 1) -> list[Stretch]:
        """The one stretch of an epoch: a whole pass over the site of the visit that it belongs to."""
        visit = bisect_right(self.starts, number) - 1
        return [Stretch(self.itinerary.site(visit), None, visit, number - self.starts[visit], self.seed)]

    def mean_batches(self, epochs: int, batches_a_step: int, batches: Callable[[Stretch], float]) -> int:
        """The mean length of one pass over each site: how often each is passed over is not known before."""
        steps = [-(-batches(Stretch(site)) // batches_a_step) for site in self.itinerary.sites]
        return int(-(-sum(steps) // len(steps))) * batches_a_step
