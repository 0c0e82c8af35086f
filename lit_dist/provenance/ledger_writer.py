"""LedgerWriter: what happens in a visit, written to the ledger, and the proof of the hand-off."""

import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from lit_dist.checkpoints.run_folder import CHECKPOINTS, LEDGER, foreign_checkpoint, run_folder
from lit_dist.provenance.entry import PASSED, Entry, Outcome
from lit_dist.provenance.estimation import Estimated, Estimation
from lit_dist.provenance.hand_off import HandOff, weights
from lit_dist.provenance.ledger import Ledger
from lit_dist.provenance.line import ESTIMATED, FIRST, MERGED
from lit_dist.provenance.merge import Merge, Weighting
from lit_dist.provenance.run_settings import RULE, versions
from lit_dist.provenance.visit_account import VisitAccount, new_account, waiting_entry
from lit_dist.provenance.visit_metrics import VisitMetrics
from lit_dist.visits.batch_size import batch_size
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import travelling_bytes


class LedgerWriter:
    """Keeps the account of the visit that is under way.

    Attributes:
        kept: Whether a checkpoint has the line that waits: a fit that resumes from it writes it, with the validation.
        merge: The line of a merge, while it waits for a validation.
        settings: The SHA-256 of the settings that decide what a visit does.
    """

    def __init__(self, metrics: VisitMetrics) -> None:
        self.kept = False
        self.merge: Merge | None = None
        self.settings = ""
        self._metrics = metrics
        self._hand_off = HandOff()
        self._account = new_account(RULE)
        self._head: str | None = None
        self._ledger: Ledger | None = None
        self._waiting: Entry | None = None
        self._left_out_after: int | None = None  # steps, after which the rest of the visit is left out
        self._resumed_at = 0.0

    @property
    def visit(self) -> Visit | None:
        """The visit under way, or the last one; None before the first."""
        return Visit(*self._account["visit"]) if self._account["visit"] else None

    @property
    def run_id(self) -> str:
        """The run's id; empty before it begins."""
        return self._account["run"]

    @property
    def ended(self) -> bool:
        """Whether that visit has ended."""
        return self._account["ended"]

    @property
    def within_epoch(self) -> bool:
        """Whether the end of a fit has cut that visit short in the middle of an epoch."""
        return self._account["within_epoch"]

    def open_ledger(self, trainer: Trainer, settings: Callable[[int], str]) -> None:
        """Find the run's folder, and give a new run its id.

        To be called by every process. A run that begins with the state of another one is a new one, whose lines say
        with which. ``settings`` gives the SHA-256 of the settings by a rule.
        """
        account = self._account
        foreign = foreign_checkpoint(trainer)
        if foreign is not None:
            account.update({"run": "", "rule": RULE, "origin": f"{foreign.name} {weights(trainer)[0]}"})
            self._head = self._waiting = self.merge = None
        account["run"] = account["run"] or uuid.uuid4().hex
        folder = run_folder(trainer) if not trainer.fast_dev_run else None  # type: ignore[attr-defined]
        path = folder / LEDGER if folder and trainer.is_global_zero else None
        if self._ledger is not None and self._ledger.path == path and self._head is not None:
            self._ledger.resume(self._head)
        else:
            run = account["run"] if path and _goes_on_in(path, trainer) else None
            self._ledger = Ledger(path, self._head, run) if path else None
        if self._ledger is not None:
            self._head = self._ledger.head
        self.settings = settings(account["rule"])
        self._resumed_at = time.monotonic()

    def put_estimation(self, trainer: Trainer, estimated: Estimated) -> None:
        """Put what was estimated before the first visit on record. To be called by every process."""
        sha256_out, _, _ = weights(trainer)
        if self._ledger is None:
            return
        line = Estimation(
            run=self._account["run"],
            kind=ESTIMATED,
            sha256_out=sha256_out,
            settings=self.settings,
            versions=versions(),
            **asdict(estimated),
        )
        self._ledger.add(line)
        self._head = self._ledger.head

    def begin(self, trainer: Trainer, visit: Visit, parent: str = "") -> None:
        """Begin a visit, or resume one that was cut short, and prove that the weights are those of its predecessor.

        Raises:
            InputError: If they are not.
        """
        self.write()
        account = self._account
        sha256 = self._check_hand_off(
            trainer, f"visit {visit.number} at {visit.site!r} does not start with", bool(parent)
        )
        self._metrics.forget_validation()
        account.update({"visit": (visit.number, visit.cycle, visit.site), "ended": False, "images": 0})
        account.update({"first_step": trainer.global_step, "rates": (_learning_rates(trainer), account["rates"][1])})
        account.update({"sha256_in": sha256, "seconds": 0.0})
        self._left_out_after = None
        self._resumed_at = time.monotonic()

    def check_last(self, trainer: Trainer) -> None:
        """Prove that a run ends with the weights that its last visit ended with.

        Raises:
            InputError: If it does not.
        """
        if self.ended:
            self._check_hand_off(trainer, "the run does not end with")

    def _check_hand_off(self, trainer: Trainer, what: str, merged: bool = False) -> str:
        if self.visit is None:
            return weights(trainer)[0]
        handed_on = "the last merge has left" if merged else f"visit {self.visit.number} ended with"
        what = f"{what} the weights that {handed_on}"
        return self._hand_off.check(trainer, self._account["sha256_out"], what)

    def step(self, trainer: Trainer) -> None:
        """Note the learning rates of a step that begins; a schedule may change them before the visit's end is seen."""
        self._account["rates"] = (self._account["rates"][0], _learning_rates(trainer))

    def leave_out(self, trainer: Trainer) -> None:
        """Note that what is left of the visit passes without training; Lightning counts steps all the same."""
        self._left_out_after = trainer.global_step - self._account["first_step"]

    def count(self, batch: Any) -> None:
        """Count the images of a batch."""
        self._account["images"] += batch_size(batch)

    def end(self, trainer: Trainer, outcome: Outcome, parent: str = "") -> Entry | None:
        """End the visit, if one is under way. Its line waits for a validation that may follow, until ``write``.

        Args:
            trainer: The trainer.
            outcome: The visit's.
            parent: What it began with, as in an ``Entry``.

        Returns:
            The line.
        """
        account, visit = self._account, self.visit
        if visit is None or account["ended"]:
            return None
        if outcome != "cut short":  # which is known only after the validation
            self._metrics.forget_validation()
        sha256_out, size = account["sha256_in"], 0
        if outcome != "diverged":
            sha256_out, size = self._hand_off.take(trainer)
            size += travelling_bytes(trainer)
        batches = trainer.fit_loop.epoch_loop.batch_progress
        within_epoch = outcome == "cut short" and batches.current.ready > 0 and not batches.is_last_batch
        account.update({"ended": True, "within_epoch": within_epoch, "sha256_out": sha256_out})
        steps = trainer.global_step - account["first_step"] if self._left_out_after is None else self._left_out_after
        images = torch.tensor(account["images"], device=trainer.strategy.root_device)
        images = trainer.strategy.reduce(images, reduce_op="sum")
        self._waiting = Entry(
            run=account["run"],
            visit=visit.number,
            cycle=visit.cycle,
            site=visit.site,
            outcome=outcome,
            images=int(images),
            steps=steps,
            learning_rates_start=account["rates"][0],
            learning_rates_end=account["rates"][1],
            sha256_in=account["sha256_in"],
            sha256_out=sha256_out,
            bytes=size,
            seconds=round(self._elapsed(), 6),
            settings=self.settings,
            versions=versions(),
            metrics={} if outcome in PASSED else self._metrics.of_training(trainer),
            origin=account["origin"],
            parent=parent,
        )
        self.kept = False
        return self._waiting

    def hand_on(self, trainer: Trainer) -> None:
        """Take the weights that the next visit begins with, where they are not those that the last one ended with."""
        self._account["sha256_out"], _ = self._hand_off.take(trainer)

    def end_merge(self, trainer: Trainer, parents: list[tuple[int, str, float]], weighting: Weighting) -> None:
        """Put a merge on record, whose weights the module has. Its line waits as that of a visit.

        Args:
            trainer: The trainer.
            parents: The visits, the hash of the weights that each ended with, and what each counts.
            weighting: By what they count.
        """
        start, visit = time.monotonic(), self.visit
        assert visit is not None
        sha256_out, size = self._hand_off.take(trainer)
        self._account["sha256_out"] = sha256_out
        self.merge = Merge(
            run=self._account["run"],
            kind=MERGED,
            cycle=visit.cycle,
            visits=[number for number, _, _ in parents],
            parents=[sha256 for _, sha256, _ in parents],
            weights=[float(weight) for _, _, weight in parents],
            weighting=weighting,
            sha256_out=sha256_out,
            bytes=size + travelling_bytes(trainer),
            seconds=round(time.monotonic() - start, 6),
            settings=self.settings,
            versions=versions(),
        )
        self.kept = False
        if self._waiting is None:  # its line, after which this one comes, is there already
            self.write()

    def write(self, trainer: Trainer | None = None) -> None:
        """Write the line of a visit that has ended, and that of a merge after it.

        Args:
            trainer: If given, the metrics at the end of the epoch are added.
        """
        (entry, self._waiting), (merge, self.merge) = (self._waiting, None), (self.merge, None)
        if entry is not None and trainer is not None:  # a validation has seen the merge
            more = self._metrics.of_epoch(trainer, trained=entry.outcome not in PASSED, validated=merge is None)
            entry = replace(entry, metrics={**entry.metrics, **more})
        if merge is not None and trainer is not None:
            merge = replace(merge, metrics=self._metrics.of_validation(trainer))
        for line in (entry, merge):
            if line is not None and self._ledger is not None:
                self._ledger.add(line)
                self._head = self._ledger.head

    def _elapsed(self) -> float:
        return self._account["seconds"] + time.monotonic() - self._resumed_at

    def state_dict(self) -> VisitAccount:
        """The account as plain values, for a checkpoint."""
        waiting = asdict(self._waiting) if self._waiting else None
        return {**self._account, "head": self._head or FIRST, "waiting": waiting, "seconds": self._elapsed()}

    def load_state_dict(self, state: VisitAccount) -> None:
        """Restore the account of a checkpoint."""
        self._account = {**new_account(rule=1), **state}
        self._head = state["head"]
        self._waiting = waiting_entry(state)
        self.kept = True


def _goes_on_in(path: Path, trainer: Trainer) -> bool:
    """Whether a fit resumes from a checkpoint of the run whose ledger this is."""
    folder = path.parent / CHECKPOINTS
    return trainer.ckpt_path is not None and Path(trainer.ckpt_path).parent.resolve() == folder.resolve()


def _learning_rates(trainer: Trainer) -> list[float]:
    return [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
