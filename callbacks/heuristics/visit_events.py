"""VisitEvents: what happens at each event of a visit, whichever visit it is."""

from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.callbacks.baton_writer import BatonWriter
from lit_dist.callbacks.divergence import Divergence, OnDivergence
from lit_dist.callbacks.idle_steps import IdleSteps
from lit_dist.callbacks.merging import Merging, check_merge, merge_of
from lit_dist.callbacks.optimizer_states import OptimizerState, OptimizerStates
from lit_dist.provenance.entry import Outcome
from lit_dist.provenance.estimation import Estimated
from lit_dist.provenance.ledger_writer import LedgerWriter
from lit_dist.provenance.line import MERGED
from lit_dist.provenance.merge import Weighting
from lit_dist.provenance.visit_account import TransferState, waiting_merge
from lit_dist.provenance.visit_metrics import VisitMetrics
from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import check_parts, file_backed
from lit_dist.visits.itinerary import Itinerary, Visit
from lit_dist.visits.local_tensors import arrive, leave
from lit_dist.visits.visit_callback import visit_callbacks


class VisitEvents:
    """Proves the hand-off, watches for divergence, applies the policy for the optimizers' state, keeps the batons.

    Attributes:
        itinerary: That of the run.
        at_site: Whether this is a site of a federation, whose server merges what its visits come to.
        metrics: What of the logged metrics belongs to a visit.
        record: Writes the ledger.
    """

    def __init__(self, optimizer_state: OptimizerState, on_divergence: OnDivergence, weighting: Weighting) -> None:
        self.itinerary: Itinerary | None = None  # not known before training begins
        self.at_site = False
        self._merging = Merging(weighting)
        self.metrics = VisitMetrics()
        self.record = LedgerWriter(self.metrics)
        self._batons: BatonWriter | None = None
        self._divergence = Divergence(on_divergence)
        self._states = OptimizerStates(optimizer_state)
        self._handed_on: Visit | None = None  # ended, and its baton not yet written
        self._absent = False  # whether a visit passes at whose site nobody is
        self._idle = IdleSteps()  # while a visit passes without training

    @property
    def visit(self) -> Visit | None:
        """The visit under way, or the last one that ended; None before the first."""
        return self.record.visit

    @property
    def visits_ended(self) -> int:
        """The number of visits that have ended."""
        return 0 if self.visit is None else self.visit.number + self.record.ended

    def on_train_start(
        self,
        trainer: Trainer,
        settings: Callable[[int], str],
        metrics: Collection[str] | None,
        batons: BatonWriter | None,
        new: bool,
    ) -> None:
        """Begin a run, or resume it from a checkpoint.

        Args:
            trainer: The fit's trainer.
            settings: Gives the SHA-256 of the settings by a rule.
            metrics: The metrics of training that the ledger may have; None allows all.
            batons: Keeps the batons, if that is asked for.
            new: Whether the run begins.
        """
        self._batons = batons if not trainer.fast_dev_run else None  # type: ignore[attr-defined]
        self.metrics.allowed = metrics
        self.record.open_ledger(trainer, settings)
        estimated = getattr(trainer.lightning_module, "estimated", None)  # before this fit's first visit
        if isinstance(estimated, Estimated):
            self.record.put_estimation(trainer, estimated)
        if self._divergence.skipping:
            self._idle.begin(trainer)
        check_parts(self._states.kept)
        for callback in visit_callbacks(trainer):
            callback.begin_fit(trainer, new, self.visit.site if self.visit else None)
        if self._round is not None:
            self._merging.begin_fit(trainer, self.at_site)
            if self._merging.pending:
                self._take_up(trainer)

    def on_visit_start(self, trainer: Trainer, visit: Visit, left_out: bool = False) -> None:
        """Begin a visit, unless it is under way; what is left out of it passes without training.

        Raises:
            InputError: If something before it would be jumped over, since the end of a fit has cut an epoch short.
        """
        if self.visit is not None and self.record.within_epoch:
            raise InputError(
                f"visit {self.visit.number} at {self.visit.site!r} was ended in the middle of an epoch, by max_steps"
                " perhaps, and Lightning begins the epoch after it. Resume the run from an older checkpoint, or begin"
                " it anew"
            )
        if self.visit is not None and visit.number > self.visits_ended:
            raise InputError(
                f"visit {self.visits_ended} is due, and the fit would begin with visit {visit.number}: the run was"
                " ended within a cycle, by max_steps perhaps, and Lightning begins the epoch after it. Resume it from a"
                " checkpoint of a whole cycle, or begin it anew"
            )
        if self.record.ended or self.visit != visit:
            if self._round is not None:
                if self._merging.resume_visit(visit):
                    self._take_up(trainer)
                if self.visit != visit:
                    self._merging.begin_visit(trainer, visit, self._round)
            from_merge = self._round is not None and self._round.from_merge(visit.number)
            self.record.begin(trainer, visit, MERGED if from_merge else "")
            self._divergence.begin(trainer)
            for callback in visit_callbacks(trainer):
                callback.enter(visit.site, self._divergence.policy == "skip")
            if not left_out:
                self._start_callbacks(trainer, visit)
        if left_out and not self._absent:
            self.record.leave_out(trainer)
            self._absent = True
            self._idle.begin(trainer)

    def on_step_start(self, trainer: Trainer) -> None:
        """Take into account that a training step begins."""
        self.record.step(trainer)
        self._idle.begin_step(trainer)

    def on_step_end(self, trainer: Trainer, outputs: Any, batch: Any, number: int, visit_ends: bool) -> None:
        """Take a training step into account, by the batch and its number in the epoch.

        Raises:
            InputError: If training has diverged, and the run is to end then.
        """
        self.record.count(batch)
        self._divergence.watch(outputs)
        what = self._divergence.look(trainer, number, visit_ends)
        if what is None or self.visit is None:
            return
        if self._divergence.policy == "skip":
            self._divergence.skip(trainer, self.visit, what)
            self._idle.begin(trainer)
            for callback in visit_callbacks(trainer):
                callback.put_back()
            return
        self.record.end(trainer, "diverged", self._parent)
        self.record.write()
        raise self._divergence.error(trainer, self.visit, what)

    def on_visit_end(self, trainer: Trainer, before_hand_over: Callable[[LightningModule], None]) -> None:
        """End the visit, if one is under way, and leave the optimizers as the following site is to find them.

        Unless it has diverged, ``before_hand_over`` may change its weights before they are hashed.
        """
        if self.visit is None or self.record.ended:
            return
        assert self.itinerary is not None
        following = self.itinerary.visit(self.visit.number + 1)
        if not self._divergence.skipping:
            before_hand_over(trainer.lightning_module)
        if not self.passing:
            merges = self._round is not None and self._round.merges_after(self.visit.number)
            self._end_callbacks(trainer, self.visit, following.cycle != self.visit.cycle and not merges)
        entry = self.record.end(trainer, self._outcome, self._parent)
        self._stop_passing()
        self._states.transfer(trainer.optimizers, self.visit.site, following.site)
        self._handed_on = self.visit
        if self._round is not None and entry is not None:
            self._merging.end_visit(entry)
            self._take_up(trainer)

    @property
    def _round(self) -> Itinerary | None:
        """The itinerary, if it has merges."""
        return self.itinerary if self.itinerary is not None and self.itinerary.merges else None

    @property
    def _parent(self) -> str:
        """What the visit under way has begun with, as in an ``Entry``."""
        return MERGED if self.visit and self._round and self._round.from_merge(self.visit.number) else ""

    def _start_callbacks(self, trainer: Trainer, visit: Visit) -> None:
        carried = self._states.policy == "carry"
        for callback in visit_callbacks(trainer):
            arrive(callback, trainer.lightning_module, trainer.optimizers, carried)
        for callback in visit_callbacks(trainer):
            callback.on_visit_start(trainer, trainer.lightning_module, visit)
            callback.check(trainer.lightning_module)

    def _end_callbacks(self, trainer: Trainer, visit: Visit, cycle_ends: bool) -> None:
        if visit_callbacks(trainer):
            _share_buffers(trainer)  # so that all processes make the same of them
        for callback in visit_callbacks(trainer):
            callback.on_visit_end(trainer, trainer.lightning_module, visit)
            if cycle_ends:
                callback.on_cycle_end(trainer, trainer.lightning_module, visit)
            callback.check(trainer.lightning_module)
        for callback in visit_callbacks(trainer):  # after all, which see the site's own tensors
            leave(callback, trainer.lightning_module, trainer.optimizers, self._states.policy == "carry")
            callback.rest()

    def _take_up(self, trainer: Trainer) -> None:
        """Take a visit of a round that has ended into account; a site leaves that to the server."""
        visit = self.visit
        if self.at_site or visit is None or self._round is None:
            return
        if self._batons is not None and self._handed_on is not None:
            self._batons.write_weights(trainer, visit)
        parents = self._merging.take_up(trainer, self._round)
        if parents is None:
            self.record.hand_on(trainer)
            return
        for callback in visit_callbacks(trainer):
            callback.leave_site()
            if parents:  # else nothing was trained since the last one
                callback.on_cycle_end(trainer, trainer.lightning_module, visit)
                callback.check(trainer.lightning_module)
        check_merge(trainer, self._round, visit.cycle, [number for number, _, _ in parents])
        self._merging.end_merge(trainer)
        self.record.end_merge(trainer, parents, self._merging.weighting)

    @property
    def weights_of(self) -> str:
        """Whose weights the module has between two visits, for messages."""
        if self.record.merge is not None and self._round is not None:
            return merge_of(self._round, self.record.merge.cycle, self.record.merge.visits)
        return f"visit {self.visit.number} at {self.visit.site!r}" if self.visit else "the beginning of the run"

    @property
    def passing(self) -> bool:
        """Whether the visit under way, or what is left of it, passes without training."""
        return self._divergence.skipping or self._absent

    @property
    def _outcome(self) -> Outcome:
        if self._absent:
            return "absent"
        return "skipped" if self._divergence.skipping else "trained"

    def _stop_passing(self) -> None:
        self._divergence.end()
        self._absent = False
        self._idle.end()

    def write_baton(self, trainer: Trainer) -> None:
        """Write the baton of a visit that has ended. Not after an epoch's last batch: schedules step after it."""
        if self._batons is not None and self._handed_on is not None:
            self._batons.write(trainer, self._handed_on)
        self._handed_on = None

    def on_train_end(self, trainer: Trainer) -> None:
        """Put a visit that the end of the run cuts short on record, too."""
        self.record.check_last(trainer)
        entry = self.record.end(trainer, "cut short", self._parent)
        if self._round is not None and entry is not None:
            self._merging.end_visit(entry)
        self.record.write(trainer)
        self.write_baton(trainer)

    def leave_round(self, trainer: Trainer) -> None:
        """Leave a fit that has ended within a round with the weights of the last merge, and say so."""
        dry = trainer.fast_dev_run or self.at_site  # type: ignore[attr-defined]
        if self.visit is None or self._round is None or dry or not self._merging.within_round:
            return
        self._merging.leave(trainer)
        rank_zero_warn(
            f"the fit has ended within a round, after visit {self.visit.number} at {self.visit.site!r}: the model is"
            " that of the last merge, and what was trained since then counts only if the run is resumed"
        )

    def close(self) -> None:
        """Leave the module as it was. A line that waits for a validation is written now, unless a checkpoint has it."""
        if not self.record.kept:
            self.record.write()
        self._stop_passing()

    def state_dict(self) -> TransferState:
        """All of it, for a checkpoint."""
        state: TransferState = {
            "record": self.record.state_dict(),
            "divergence": self._divergence.state_dict(),
            "optimizer_states": self._states.kept,
        }
        if self._round is not None:
            waiting = asdict(self.record.merge) if self.record.merge else None
            state["merging"] = {**self._merging.state_dict(), "waiting": waiting}
        return state

    def load_state_dict(self, state: TransferState) -> None:
        """Restore the state of a checkpoint."""
        self.record.load_state_dict(state["record"])
        self._divergence.load_state_dict(state["divergence"])
        self._states.kept = {site: file_backed(kept) for site, kept in state["optimizer_states"].items()}
        if "merging" in state:
            self._merging.load_state_dict(state["merging"])
            self.record.merge = waiting_merge(state["merging"])


def _share_buffers(trainer: Trainer) -> None:
    """Give every process the first one's buffers, such as running statistics; to be called by all of them."""
    if trainer.world_size > 1 and torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in trainer.lightning_module.buffers():
            torch.distributed.broadcast(buffer.data, src=0)
