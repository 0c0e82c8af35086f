"""RoundVisits: asks at the same time for those visits of a round that do not wait for each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lightning.pytorch import LightningModule, Trainer

from lit_dist.callbacks import WeightTransfer
from lit_dist.federation.dry_run import DryRun
from lit_dist.federation.early_answers import EarlyAnswers
from lit_dist.federation.roster import Roster
from lit_dist.federation.travelling_state import after_visit
from lit_dist.federation.wire import Tree
from lit_dist.utils.errors import InputError
from lit_dist.visits.visit_callback import visit_callbacks


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """A visit that can be asked for.

    Attributes:
        site: Where it is.
        question: What the site is asked.
        state: The state that it is asked from.
    """

    site: str
    question: Tree
    state: Tree

    @property
    def visit(self) -> int:
        """The visit's number."""
        number: int = self.question["visit"]
        return number


class RoundVisits:
    """Asks for the visits of a round: each as soon as the one that it follows has ended, and its site is free.

    Where sites keep something from visit to visit, such as the state of an optimizer, a site makes its visits in their
    order.

    Args:
        roster: The sites.
        trainer: The server's trainer.
        module: The module, whose weights are the same afterwards.
        transfer: The run's transfer callback.
        early: Keeps what is answered before it is its visit's turn.
        question: Gives the question for a visit at a site from a state.
        dry_run: Goes through a visit at a site from a state.
        check: Gives the next baton of an answer, or raises ``InputError`` if it is wrong.
    """

    def __init__(
        self,
        roster: Roster,
        trainer: Trainer,
        module: LightningModule,
        transfer: WeightTransfer,
        early: EarlyAnswers,
        question: Callable[[str, Tree], Tree],
        dry_run: Callable[[str, Tree], DryRun],
        check: Callable[[Due, Tree], Tree],
    ) -> None:
        self.roster, self.module, self.transfer, self.early = roster, module, transfer, early
        self._question, self._dry_run, self._check = question, dry_run, check
        self._itinerary = transfer.itinerary(roster.sites)
        self._in_order = transfer.optimizer_state == "local" or bool(visit_callbacks(trainer))

    def ask(self, due: Due) -> None:
        """Ask for a visit, and for all others of its round that can be made at the same time, or after these."""
        weights = {name: each.clone() for name, each in self.module.state_dict().items()}
        question = {**due.question, "baton": {**due.question["baton"], "state_dict": weights}}
        try:
            first = Due(due.site, question, {**due.state, "state_dict": weights})
            self._begin(first)
        finally:
            self.module.load_state_dict(weights)

    def _begin(self, first: Due) -> None:
        self._first, self._answered = first.visit, set[int]()
        self._waiting = [first]
        self._waiting += [each for branch in self._branches(first) for each in self._unanswered(branch)]
        self._asked: dict[str, Due] = {}
        self.roster.ask_each("train", self._startable(), self._received)

    def _branches(self, first: Due) -> list[Due]:
        """The later visits of the round that begin with the last merge."""
        found, due = [], first
        while not self._itinerary.merges_after(due.visit):
            planned = self._dry_run(due.site, due.state)
            if planned.where not in self.roster.sites:
                break
            due = self._due(planned.where, self._after(due, planned.baton))
            if self._itinerary.from_merge(due.visit):
                found.append(due)
        return found

    def _unanswered(self, due: Due | None) -> list[Due]:
        """A visit, or the first after it that has no answer yet; none if that waits for its turn."""
        while due is not None and self.early.has(due.question):
            due = self._next(due, self.early.look(due.question))
        return [] if due is None else [due]

    def _received(self, site: str, answer: Tree | None) -> Mapping[str, Tree]:
        due = self._asked.pop(site)
        self.early.keep(due.question, answer)
        self._waiting += self._unanswered(self._next(due, answer))
        return self._startable()

    def _next(self, due: Due, answer: Tree | None) -> Due | None:
        """The visit that follows one in its branch; None if there is none, or it has to wait until the turn is its."""
        self._answered.add(due.visit)
        if answer is None or self._itinerary.merges_after(due.visit) or self._itinerary.from_merge(due.visit + 1):
            return None
        try:
            baton = self._check(due, answer)
        except InputError:  # it is raised when the visit has its turn, and all before it are on record
            return None
        site = self._itinerary.site(due.visit + 1)
        return self._due(site, self._after(due, baton))

    def _after(self, due: Due, baton: Tree) -> Tree:
        return after_visit(baton, due.state, self.transfer, self._itinerary.from_merge(due.visit + 1))

    def _due(self, site: str, state: Tree) -> Due:
        return Due(site, self._question(site, state), state)

    def _startable(self) -> dict[str, Tree]:
        """Take those visits that wait for nothing any more."""
        found: dict[str, Tree] = {}
        for due in sorted(self._waiting, key=lambda each: each.visit):
            if due.site not in self._asked and not (self._in_order and self._held_up(due)):
                self._asked[due.site] = due
                self._waiting.remove(due)
                found[due.site] = due.question
        return found

    def _held_up(self, due: Due) -> bool:
        """Whether an earlier visit at the same site is not made yet."""
        earlier = (visit for visit in range(self._first, due.visit) if visit not in self._answered)
        return any(self._itinerary.site(visit) == due.site for visit in earlier)
