"""Limits: how long a run may be at a site, held while it trains, whatever the server says of the run's length."""

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.callbacks import WeightTransfer
from lit_dist.federation.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Limits:
    """A site's limits.

    Attributes:
        epochs: The greatest number of epochs of a run; None sets no limit.
        visits: The greatest number of a run's visits at the site; None sets no limit.
    """

    epochs: int | None = None
    visits: int | None = None


class Limiter(Callback):
    """Ends a leg that goes beyond the limits.

    Args:
        limits: The limits.
        site: The site's name.
        transfer: The run's transfer callback.
    """

    def __init__(self, limits: Limits, site: str, transfer: WeightTransfer) -> None:
        self.limits = limits
        self.site = site
        self.transfer = transfer
        self._checked = -1

    def check_plan(self, epochs: int, batches_a_step: int) -> None:
        """Refuse a run of too many visits before it begins, where their number is known.

        Args:
            epochs: The number of epochs of the run.
            batches_a_step: How many batches make one optimizer step.

        Raises:
            Refusal: If the site would be visited too often.
        """
        plan = self.transfer.make_plan(self.transfer.itinerary(self.transfer.sites))
        self._check(plan.epoch(epochs - 1, batches_a_step)[-1].visit)

    def _check(self, visit: int) -> None:
        if self.limits.visits is None or visit == self._checked:
            return
        itinerary = self.transfer.itinerary(self.transfer.sites)
        here = sum(itinerary.site(number) == self.site for number in range(visit + 1))
        if here > self.limits.visits:
            raise Refusal(f"its site.yaml allows max_visits: {self.limits.visits}, and the run would make {here}")
        self._checked = visit

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.limits.epochs is not None and trainer.current_epoch >= self.limits.epochs:
            raise Refusal(f"its site.yaml allows max_epochs: {self.limits.epochs}, and the run goes on after them")
        if self.transfer.visit is not None:  # that of this batch: the transfer callback stands before this one
            self._check(self.transfer.visit.number)
