"""EpochPlan: which site's batches an epoch of the trainer is made of. Nothing here knows of Lightning."""

from collections.abc import Callable
from dataclasses import dataclass

from lit_dist.visits.itinerary import Itinerary


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an epoch that is drawn from one site.

    Attributes:
        site: The site's name.
        batches: How many batches are drawn, in several passes where the site has fewer; None for one whole pass.
        visit: The number of the visit that the stretch belongs to; -1 in a run without visits.
        first_pass: The number of the stretch's first pass within the visit, or the epoch's number in the run.
        seed: The run's seed; None leaves the order of the images to the loader.
    """

    site: str
    batches: int | None = None
    visit: int = 0
    first_pass: int = 0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """Lays an itinerary out over the trainer's epochs, as a pure function of the epoch's number.

    Attributes:
        itinerary: Which site is visited when.
        every_n_epochs: The length of a visit in epochs; an epoch is then one pass over the visited site.
        every_n_steps: The length of a visit in optimizer steps; an epoch is then one cycle.
        seed: The run's seed.
    """

    itinerary: Itinerary
    every_n_epochs: int | None
    every_n_steps: int | None
    seed: int

    @property
    def epochs_a_cycle(self) -> int:
        """The number of epochs of a cycle, in which every site has its turn."""
        return self.every_n_epochs * self.itinerary.visits_a_cycle if self.every_n_epochs else 1

    def epoch(self, number: int, batches_a_step: int = 1) -> list[Stretch]:
        """The stretches of an epoch.

        Args:
            number: The epoch's number, from 0.
            batches_a_step: How many batches make one optimizer step.
        """
        if self.every_n_epochs:
            visit, first_pass = divmod(number, self.every_n_epochs)
            return [Stretch(self.itinerary.site(visit), None, visit, first_pass, self.seed)]
        batches = (self.every_n_steps or 0) * batches_a_step
        visits = self.itinerary.visits_a_cycle
        return [
            Stretch(self.itinerary.site(visit), batches, visit, 0, self.seed)
            for visit in range(number * visits, (number + 1) * visits)
        ]

    def due(self, epoch: int, ended: int) -> int:
        """The number of the visit that an epoch begins or resumes.

        Args:
            epoch: The epoch's number, from 0.
            ended: How many visits have ended. The last of them may be one that the end of the run cut short: where the
                run was made longer, the epoch resumes it.
        """
        visits = [stretch.visit for stretch in self.epoch(epoch)]
        return min(max(ended, visits[0]), visits[-1])

    def mean_batches(self, epochs: int, batches_a_step: int, batches: Callable[[Stretch], float]) -> int:
        """The length of a mean epoch, such that its optimizer steps times ``epochs`` are all that a schedule sees.

        Where that is not a whole number of steps it is rounded up, so the product is too large by fewer steps than
        there are epochs.

        Args:
            epochs: The number of epochs of the run; less than 1 if it is not known.
            batches_a_step: How many batches make one optimizer step.
            batches: Gives the number of batches of a stretch.
        """
        if epochs < 1:
            epochs = self.epochs_a_cycle
        lengths = (
            sum(batches(each) for each in self.epoch(number, batches_a_step) if self.itinerary.advances(each.visit))
            for number in range(epochs)
        )
        steps = sum(-(-length // batches_a_step) for length in lengths)
        return int(-(-steps // epochs)) * batches_a_step
