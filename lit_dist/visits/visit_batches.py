"""VisitBatches: which batches the epochs of a trainer have, and at which of them a visit begins and ends."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from lightning.pytorch import Trainer

from lit_dist.visits.epoch_plan import EpochPlan, Stretch
from lit_dist.visits.joint_loader import JointLoader
from lit_dist.visits.seeding import pass_seed, seed_torch, step_seed
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.site_source import SiteSource


class VisitBatches(SiteSource):
    """Serves the trainer's epochs from the sites whose turn it is.

    Args:
        trainer: The trainer of the fit.
        connect: Called with each new ``SiteLoader``, before anything is planned for it.
        plan: Gives the plan of the epochs, as far as it is known.
    """

    def __init__(self, trainer: Trainer, connect: Callable[[SiteLoader], None], plan: Callable[[], EpochPlan]) -> None:
        self._before = connect
        self._plan = plan
        self._estimating = True  # the number of steps is asked for before the fit begins
        super().__init__(trainer, self._take_over)

    def _take_over(self, loader: SiteLoader) -> None:
        self._before(loader)
        loader.plan = lambda: self._stretches(self._trainer.current_epoch)
        if self._estimating:
            loader.estimate = lambda: self._plan().mean_batches(
                self._trainer.max_epochs or 0, self._trainer.accumulate_grad_batches, loader.batches
            )

    def _stretches(self, epoch: int) -> list[Stretch]:
        return self._plan().epoch(epoch, self._trainer.accumulate_grad_batches)

    def begin_fit(self) -> None:
        """Forget the estimate of the number of steps."""
        self._estimating = False
        if self.loader is not None:  # asked for already, for the estimate
            self.loader.estimate = None
            self.replan(now=True)

    def begin_epoch(self) -> None:
        """Take up the plan of the trainer's epoch."""
        assert self.loader is not None
        self._epoch = self._stretches(self._trainer.current_epoch)
        # Where each stretch but the last ends, counted in batches of the epoch.
        self._ends = list(accumulate(int(self.loader.batches(stretch)) for stretch in self._epoch[:-1]))
        self._stretch: Stretch | None = None

    def enter(self, batch: int) -> Stretch | None:
        """The stretch that begins with a batch of the epoch, or is resumed there; else None."""
        place = bisect_right(self._ends, batch)
        if self._epoch[place] is self._stretch:
            return None
        self._stretch = self._epoch[place]
        self._first = self._ends[place - 1] if place else 0
        self._seed = pass_seed(self._plan().seed, self._stretch.visit, self._stretch.first_pass)
        return self._stretch

    def counted(self, batch: Any) -> Any:
        """The part of a batch whose records count, where the site has several loaders."""
        assert self.loader is not None
        assert self._stretch is not None
        loader = self.loader.loaders[self._stretch.site]
        return loader.counted(batch) if isinstance(loader, JointLoader) else batch

    def seed_step(self, batch: int) -> None:
        """Seed what is drawn in the training step of a batch."""
        seed = step_seed(self._seed, batch - self._first, self._trainer.global_rank)
        seed_torch(seed, self._trainer.lightning_module.device)

    def visit_ends_within(self, batch: int) -> bool:
        """Whether a batch is the last of a visit, and not of the epoch."""
        return batch + 1 in self._ends

    def visit_ends_with_epoch(self) -> bool:
        """Whether the last batch of the epoch is the last of its visit, too."""
        return self._stretches(self._trainer.current_epoch + 1)[0].visit != self._epoch[-1].visit

    def end_epoch(self) -> None:
        """Let Lightning plan the next epoch anew, if it has other sites."""
        following = self._stretches(self._trainer.current_epoch + 1)
        if {stretch.site for stretch in following} != {stretch.site for stretch in self._epoch}:
            self.replan()
