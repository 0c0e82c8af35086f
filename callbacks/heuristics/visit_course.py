"""VisitCourse: what happens at the beginning of a visit, in its steps and at its end, whichever visit it is."""

from typing import Any

from lightning.pytorch import Trainer

from lit_dist.callbacks.baton_writer import BatonWriter
from lit_dist.callbacks.divergence import Divergence, OnDivergence
from lit_dist.callbacks.optimizer_states import OptimizerState, OptimizerStates
from lit_dist.provenance.ledger import Outcome
from lit_dist.provenance.ledger_writer import LedgerWriter
from lit_dist.provenance.visit_account import TransferState
from lit_dist.utils.method_patch import MethodPatch
from lit_dist.visits.itinerary import Visit


class VisitCourse:
    """Proves the hand-off, watches for divergence, applies the policy for the optimizers' state, and keeps the batons.

    Args:
        optimizer_state: What becomes of momentum and the like at a transfer.
        on_divergence: What happens when the loss or the weights become NaN or infinite.

    Attributes:
        record: The account of the visit.
        batons: Keeps the batons, if that is asked for.
    """

    def __init__(self, optimizer_state: OptimizerState, on_divergence: OnDivergence) -> None:
        self.record = LedgerWriter()
        self.batons: BatonWriter | None = None
        self._divergence = Divergence(on_divergence)
        self._states = OptimizerStates(optimizer_state)
        self._handed_on: Visit | None = None  # ended, and its baton not yet written
        self._absent: MethodPatch | None = None  # while a visit passes at whose site nobody is

    @property
    def skipping(self) -> bool:
        """Whether the visit diverged, and its rest passes without training."""
        return self._divergence.skipping

    def go_on(self, trainer: Trainer) -> None:
        """Go on with a run from a checkpoint."""
        if self._divergence.skipping:
            self._divergence.idle(trainer)

    def begin(self, trainer: Trainer, visit: Visit, left_out: bool = False) -> None:
        """Begin a visit, unless it is under way.

        Args:
            trainer: The trainer.
            visit: The visit.
            left_out: Whether it, or what is left of it, passes without training.
        """
        if self.record.ended or self.record.visit != visit:
            self.record.begin(trainer, visit)
            self._divergence.begin(trainer)
        if left_out and self._absent is None:
            self.record.leave_out(trainer)
            self._absent = MethodPatch(trainer.lightning_module, "training_step", lambda *_, **__: None)

    def step(self, trainer: Trainer, outputs: Any, batch: Any, number: int, visit_ends: bool) -> None:
        """Take a training step into account.

        Args:
            trainer: The trainer.
            outputs: What the step gave.
            batch: Its batch.
            number: The batch's number in the epoch.
            visit_ends: Whether it is the visit's last.

        Raises:
            InputError: If training has diverged, and the run is to end then.
        """
        self.record.count(batch)
        self._divergence.watch(outputs)
        what, visit = self._divergence.look(trainer, number, visit_ends), self.record.visit
        if what is None or visit is None:
            return
        if self._divergence.policy == "skip":
            self._divergence.skip(trainer, visit, what)
            return
        self.record.end(trainer, "diverged")
        self.record.write()
        raise self._divergence.error(trainer, visit, what)

    def end(self, trainer: Trainer, following: str) -> None:
        """End the visit, and leave the optimizers as the following site is to find them."""
        visit = self.record.visit
        assert visit is not None
        self.record.end(trainer, self._outcome)
        self._stop_passing()
        self._states.transfer(trainer.optimizers, visit.site, following)
        self._handed_on = visit

    @property
    def _outcome(self) -> Outcome:
        if self._absent is not None:
            return "absent"
        return "skipped" if self.skipping else "trained"

    def _stop_passing(self) -> None:
        self._divergence.end()
        if self._absent is not None:
            self._absent.lift()
            self._absent = None

    def write_baton(self, trainer: Trainer) -> None:
        """Write the baton of a visit that has ended. Not after the last batch of an epoch: schedules go on after it."""
        if self.batons is not None and self._handed_on is not None:
            self.batons.write(trainer, self._handed_on)
        self._handed_on = None

    def close(self) -> None:
        """Leave the module as it was. A line that waits for a validation is written now, unless a checkpoint has it."""
        if not self.record.kept:
            self.record.write()
        self._stop_passing()

    def state_dict(self) -> TransferState:
        """All of it, for a checkpoint."""
        return {
            "record": self.record.state_dict(),
            "divergence": self._divergence.state_dict(),
            "optimizer_states": self._states.kept,
        }

    def load_state_dict(self, state: TransferState) -> None:
        """Go on with the state of a checkpoint."""
        self.record.load_state_dict(state["record"])
        self._divergence.load_state_dict(state["divergence"])
        self._states.kept = state["optimizer_states"]
