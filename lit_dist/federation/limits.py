"""Limiter: holds a site's limits while a run trains there, whatever the server says of the run's length."""

import hashlib
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.callbacks import WeightTransfer
from lit_dist.checkpoints import state_tree
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.federation.counts import Counts, Limits, PartialFit
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.wire import Tree
from lit_dist.provenance.visit_account import transfer_state

LONGEST = 10**6
"""The greatest number of visits, and of epochs, that a run can have."""

_CHANGING = ("seconds", "head", "waiting")
"""What of an account differs where a partial fit is repeated: times, and hashes of lines that have times in them."""


class Limiter(Callback):
    """Ends a partial fit that goes beyond a site's limits; ``transfer`` is None where the site trains alone."""

    takes_part = False

    def __init__(self, limits: Limits, site: str, transfer: WeightTransfer | None, counts: Counts) -> None:
        self.limits = limits
        self.site = site
        self.transfer = transfer
        self.counts = counts
        self.fit: PartialFit | None = None  # what is trained now
        self._charged = (-1, -1)

    def begin(self, fit: PartialFit) -> None:
        """Begin a partial fit."""
        self.fit = fit
        self._charged = (-1, -1)

    def check_length(self, epochs: int) -> None:
        """Raise ``Refusal`` for a run that is longer than any."""
        if epochs > LONGEST:
            raise Refusal(f"the run has {epochs} epochs; {LONGEST} are the most")

    def check_plan(self, epochs: int, batches_a_step: int, passes: int) -> None:
        """Raise ``Refusal`` for a run of too many visits, or of too long ones, before it begins, where that is known.

        Args:
            epochs: The number of epochs of the run.
            batches_a_step: How many batches make one optimizer step.
            passes: How often a visit goes through the site's images in an epoch, rounded up.
        """
        assert self.transfer is not None
        most = self.limits.max_epochs
        if most is not None and epochs * passes > most:
            raise Refusal(
                f"its site.yaml allows max_epochs: {most}; in {epochs} epochs the run would go through its records"
                f" {epochs * passes} times"
            )
        most = self.limits.max_visits
        if most is None:
            return
        itinerary = self.transfer.itinerary(self.transfer.sites)
        last = self.transfer.make_plan(itinerary).epoch(epochs - 1, batches_a_step)[-1].visit
        here = 0
        for visit in range(min(last, LONGEST) + 1):
            here += itinerary.site(visit) == self.site
            if here > most:
                raise Refusal(f"its site.yaml allows max_visits: {most}, and the run would make {here}")

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        epoch = trainer.current_epoch
        if self.limits.max_epochs is not None and epoch >= self.limits.max_epochs:
            raise Refusal(f"its site.yaml allows max_epochs: {self.limits.max_epochs}, and the run is longer")
        visit = 0
        if self.transfer is not None and self.transfer.visit is not None:  # that of this batch: the transfer's place
            visit = self.transfer.visit.number  # among the callbacks is before this one's
        if self.fit is not None and (visit, epoch) != self._charged:
            self.counts.charge(self.fit, visit, epoch, self.limits)
            self._charged = (visit, epoch)


def describe_fit(content: Tree, key: str, by_steps: bool, settings: str, passes: int = 1) -> PartialFit:
    """What a site is asked to train.

    Args:
        content: The question.
        key: The transfer callback's key.
        by_steps: Whether an epoch may have several visits.
        settings: The SHA-256 of the settings that decide what the site makes of it.
        passes: How often a visit goes through the site's images in an epoch, rounded up.
    """
    baton = content["baton"]
    account = transfer_state(baton, key)
    record = {name: value for name, value in account["record"].items() if name not in _CHANGING}
    loop = baton["loops"]["fit_loop"]
    # Without epoch_loop.state_dict, the loggers' count of steps, to which Lightning adds with each restart.
    names = ("state_dict", "epoch_loop.batch_progress", "epoch_loop.scheduler_progress")
    plain = {
        **{name: value for name, value in content.items() if name != "baton"},
        **{name: value for name, value in baton.items() if name not in ("callbacks", "loops")},
        "account": {**account, "record": record},
        "loop": {name: loop[name] for name in names},
        "place": place_of(baton),
        "settings": settings,
    }
    text, tensors = state_tree.encode(plain)
    sha256 = hashlib.sha256(f"{text}{fingerprint(tensors)[0]}".encode()).hexdigest()
    weights = fingerprint(baton["state_dict"])[0]
    return PartialFit(account["record"]["run"], sha256, weights, place_of(baton), by_steps, passes)


def place_of(baton: Tree) -> tuple[int, int, int]:
    """The optimizer step, the epoch and the batch of the epoch that a baton resumes from."""
    loop = baton["loops"]["fit_loop"]
    batches = [loop["epoch_loop.batch_progress"]["current"]["ready"]]
    batches += [state["drawn"] for state in loop["state_dict"].get("combined_loader", [])]
    return baton["global_step"], loop["epoch_progress"]["total"]["processed"], min(batches)
