"""Server: a run whose batches and validations are elsewhere."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from typing_extensions import override

from lit_dist.callbacks import RunCheckpoint
from lit_dist.callbacks.ending import ending
from lit_dist.callbacks.fit_checks import check_initialized
from lit_dist.callbacks.heuristics.find_transfer import require_transfer
from lit_dist.callbacks.logged_monitors import check_among
from lit_dist.callbacks.visit_averaging import find_averaging
from lit_dist.checkpoints.baton import fingerprint, read_checkpoint, write_checkpoint
from lit_dist.checkpoints.run_folder import LEDGER, checkpoint_path, delete_old_checkpoints, run_folder
from lit_dist.federation.callback_memory import (
    refuse_ends_elsewhere,
    refuse_local_within_visits,
    refuse_state_of_steps,
)
from lit_dist.federation.dry_run import DryRun, dry_run
from lit_dist.federation.early_answers import EarlyAnswers
from lit_dist.federation.partial_fit import Pause, partial_fit, with_callback
from lit_dist.federation.pooled_validation import SiteValues, pooled, strange
from lit_dist.federation.remote_data import RemoteData
from lit_dist.federation.remote_evaluation import remote_evaluation
from lit_dist.federation.roster import Roster
from lit_dist.federation.round_visits import Due, RoundVisits
from lit_dist.federation.run_watch import planned_visits
from lit_dist.federation.travelling_state import SCALE, join, split, unchained
from lit_dist.federation.validate_answer import check_losses, check_validated, refused
from lit_dist.federation.validate_update import Asked, check_update, due_visit
from lit_dist.federation.visit_log import VisitLog
from lit_dist.federation.wire import Tree
from lit_dist.models.monitored import refuse_unpooled
from lit_dist.models.site_reports import reported_task
from lit_dist.models.table_preparation import learnt_before
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import Ledger, iter_entries
from lit_dist.provenance.visit_account import transfer_state, waiting_entry
from lit_dist.utils.errors import InputError
from lit_dist.utils.method_patch import patched
from lit_dist.visits.visit_callback import visit_callbacks

_LEFT_OUT = "left_out"
_WEIGHTS = "pooled_by"


class Server:
    """Makes the run: it has the weights and the record, and asks the sites for what takes images.

    Args:
        roster: The sites.
        trainer: The trainer, with the run's callbacks and loggers.
        module: The module, with the weights that the run begins with.

    Raises:
        InputError: If the run is of a kind that cannot be federated.
    """

    def __init__(self, roster: Roster, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.roster = roster
        self.trainer = trainer
        self.module = module
        self.transfer = require_transfer(trainer)
        self._validated: tuple[tuple[str, ...], Tree] = ((), {})  # of which weights, and the metrics
        self._sizes: dict[str, int] = {}  # how many validation images each site has, by its first answer
        self._left_out: dict[str, int] = {}  # the step from which on a site was not heard of
        self._scale: Tree = {}  # of the gradients with 16-mixed, as the last site with a GPU had it
        self._ledger: Ledger | None = None
        self._kept = False  # whether to resume from the newest checkpoint costs no question
        if not is_overridden("configure_model", module):  # in which a fit may give layers their shapes
            check_initialized(module)
        _check_trainer(trainer)
        refuse_unpooled(trainer, reported_task(module), roster.sites)
        refuse_state_of_steps(trainer)
        refuse_ends_elsewhere(trainer, self.transfer)
        refuse_local_within_visits(trainer, module, self.transfer)

    def run(self, checkpoint: str | Path | None = None) -> None:
        """Make the run, or resume it from a checkpoint.

        Raises:
            InputError: If the sites differ in settings or programs, a site does not answer, or its answer is wrong.
        """
        folder = run_folder(self.trainer)
        data, self._early = RemoteData(self.roster.greet(folder), self.roster), EarlyAnswers(folder)
        self.roster.agree({"batches": data.batches})
        with (
            remote_evaluation(self.trainer, self.transfer, self.roster.sites, self.validate),
            with_callback(self.trainer, _Sites(self), first=True),
        ):
            state = read_checkpoint(checkpoint) if checkpoint else None
            self._left_out = state.pop(_LEFT_OUT, {}) if state else {}
            weights = state.pop(_WEIGHTS, "images") if state else self.roster.weights
            if weights != self.roster.weights:
                raise InputError(f"the run was begun with --weights {weights}: resume with the same")
            self._scale = _scale_of(state or {})
            pause = partial_fit(self.trainer, self.module, data, state)
            total = planned_visits(self.transfer, self.roster.sites, self.trainer.max_epochs)
            self._said = VisitLog(self.trainer, self.roster.sites, total, self.transfer.visits_ended)
            while pause is not None:
                if not self._kept:
                    self._keep(pause.state)
                pause = self._visit(pause, data)
            self._early.clear()

    def summary(self) -> list[str]:
        """What the run has come to, as lines."""
        path = run_folder(self.trainer) / LEDGER
        absent = [entry for entry in iter_entries(path) if entry.outcome == "absent"]
        left_out = [f"Warning: visit {each.visit} at {each.site!r} was left out: it gave no answer" for each in absent]
        return [
            *ending(self.trainer),
            *left_out,
            f"SHA-256 of the final weights: {fingerprint(self.module.state_dict())[0]}",
        ]

    def _visit(self, pause: Pause, data: RemoteData) -> Pause | None:
        """Let a site continue, and then the server, until the next site's turn."""
        site, state = pause.where, self._sent(pause.state)
        question = self._question(site, state, data)
        answer = self._ask(site, question, state, data)
        if answer is None:
            self._left_out.setdefault(site, pause.state["global_step"])
            return self._leave_out(site, pause, data)
        self._left_out.pop(site, None)
        try:
            following, entries = check_update(self._asked(site, question, state, data), answer)
        except InputError:
            self._early.forget(question)  # or a run that resumes would find it again
            raise
        self._scale |= _scale_of(following)
        key = self.transfer.state_key
        account = transfer_state(following, key)["record"]
        # Of a visit that was repeated, the line is the one on record.
        account["head"] = self._record(entries, transfer_state(pause.state, key)["record"]["head"])
        waiting = waiting_entry(account)
        self._said.add([*entries, *([waiting] if waiting else [])], following["global_step"])
        state = join(following, pause.state, self.transfer)
        self._keep(state)  # before a validation, which may fail
        self._kept = True
        return partial_fit(self.trainer, self.module, data, state)

    def _sent(self, state: Tree) -> Tree:
        """The state that a site is asked to continue from."""
        baton, _ = split(state, self.trainer, self.transfer)
        ended = transfer_state(state, self.transfer.state_key)["record"]["ended"]
        begins = ended and self._in_round(due_visit(baton, self.transfer), state)
        return unchained(state, self.transfer) if begins else state

    def _in_round(self, visit: int, state: Tree) -> bool:
        """Whether a visit that is due is one of those that are merged."""
        account = transfer_state(state, self.transfer.state_key)
        itinerary = self.transfer.itinerary(self.roster.sites)
        return itinerary.from_merge(visit) or ("merging" in account and account["merging"]["branch"])

    def _question(self, site: str, state: Tree, data: RemoteData) -> Tree:
        baton, _ = split(state, self.trainer, self.transfer)
        for each in visit_callbacks(self.trainer):  # which may be further, or not as far
            travelling = state["callbacks"][each.state_key]["travelling"]
            baton["callbacks"][each.state_key] = {**each.travels(), "travelling": travelling}
        baton |= {**self._scale, "state_dict": dict(baton["state_dict"])}  # of one type, whoever has made them
        due = due_visit(baton, self.transfer)
        return {"baton": baton, "batches": data.batches, "visit": due, "left_out": self._left_out.get(site)}

    def _ask(self, site: str, question: Tree, state: Tree, data: RemoteData) -> Tree | None:
        """The answer for a visit; those of a round that do not wait for each other are asked for at the same time."""
        if not self._in_round(question["visit"], state):
            return self.roster.ask("train", question, site).get(site)
        if not self._early.has(question):
            RoundVisits(
                *(self.roster, self.trainer, self.module, self.transfer, self._early),
                lambda place, state: self._question(place, state, data),
                lambda place, state: self._dry_run(place, state, data),
                lambda due, answer: check_update(self._asked(due.site, due.question, due.state, data), answer)[0],
            ).ask(Due(site, question, state))
        return self._early.take(question)

    def _dry_run(self, site: str, state: Tree, data: RemoteData) -> DryRun:
        data.left_out = (site,)
        try:
            return dry_run(self.trainer, self.module, data, self.transfer, state)
        finally:
            data.left_out = ()

    def _asked(self, site: str, question: Tree, state: Tree, data: RemoteData) -> Asked:
        planned = self._dry_run(site, state, data)
        optimizers = list(self.trainer.optimizers)
        sites, settings = self.roster.sites, self.roster.settings
        sent, due, greeting = question["baton"], question["visit"], self.roster.greetings[site]
        fixed = learnt_before(self.module)
        return Asked(site, sent, due, planned, optimizers, self.transfer, sites, settings, greeting, fixed)

    def _record(self, entries: Sequence[Entry], head: str) -> str:
        """Add lines to the ledger after the one with a hash; the hash of the last is given back."""
        if self._ledger is None:
            self._ledger = Ledger(run_folder(self.trainer) / LEDGER, head)
        else:
            self._ledger.resume(head)
        for entry in entries:
            self._ledger.add(entry)
        return self._ledger.head

    def _leave_out(self, site: str, pause: Pause, data: RemoteData) -> Pause | None:
        """Let the visit, or what is left of it, pass without training."""
        rank_zero_warn(f"the visit at {site!r} that is due is left out, and the weights stay as they are")
        self.transfer.left_out = data.left_out = (site,)
        self._kept = False
        try:
            with warnings.catch_warnings():
                # What is drawn again of the site's batches is nothing, each time.
                warnings.filterwarnings("ignore", message="The fit is resumed in the middle of an epoch")
                warnings.filterwarnings("ignore", message="`training_step` returned `None`")
                return partial_fit(self.trainer, self.module, data, pause.state)
        finally:
            self.transfer.left_out = data.left_out = ()

    def _keep(self, state: Tree) -> None:
        folder = run_folder(self.trainer)
        self.roster.keep(folder)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunCheckpoint):  # the visit has rows that its baton does not know of
                state = {**state, "logs": callback.logs(self.trainer)}
        write_checkpoint({**state, **self.of_sites}, checkpoint_path(folder, state["global_step"]))
        delete_old_checkpoints(folder, 2)

    @property
    def of_sites(self) -> Tree:
        """What a checkpoint has to have of the sites, besides the run's state."""
        return {**self._scale, _LEFT_OUT: self._left_out, _WEIGHTS: self.roster.weights}

    def validate(self) -> Tree:
        """How the model performs on the sites' images: each site's metrics, and those of all of them."""
        of = (fingerprint(self.module.state_dict())[0], str(self.transfer.visits_ended), *self.roster.missing)
        if self._validated[0] != of:  # SiteEvaluation and a validation may look at the same weights
            self._kept = False
            self._validated = (of, self._validate())
        return self._validated[1]

    def _validate(self) -> Tree:
        task = reported_task(self.module)
        question: Tree = {"state_dict": self.module.state_dict(), "run": self.transfer.run_id}
        question |= {"step": self.trainer.global_step, "left_out": self._left_out}  # by which sites find what stayed
        answers = self.roster.ask("validate", question)
        for site, answer in answers.items():
            check_validated(site, answer, self.roster.sites, task)
            before = self._sizes.setdefault(site, answer["images"])
            if answer["images"] > before:
                raise refused(site, f"it has {answer['images']} validation records, and had {before} before")
        check_losses(f"after {self.transfer.weights_of}", {site: answer["metrics"] for site, answer in answers.items()})
        if self.roster.missing:
            rank_zero_warn(
                f"after epoch {self.trainer.current_epoch + 1} the validation lacks the records of"
                f" {', '.join(self.roster.missing)}; 'all sites' are {', '.join(answers)}"
            )
        found = {site: SiteValues(**answer) for site, answer in answers.items()}
        for message in strange(found):
            rank_zero_warn(message)
        return pooled(found, task, self.roster.weights)


def _scale_of(state: Tree) -> Tree:
    return {SCALE: state[SCALE]} if SCALE in state else {}


class _Sites(Callback):
    """Lets each validation of a fit be what the sites find, for the callbacks and schedules that look at it.

    And each checkpoint have what is known of the sites: also that of ``RunCheckpoint``, which a run is resumed
    when its last visit was followed by a validation or by the end.
    """

    takes_part = False

    def __init__(self, server: Server) -> None:
        self.server = server
        self._patches = ExitStack()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        averaging = find_averaging(trainer)
        with averaging.in_place(pl_module) if averaging else nullcontext():
            found = self.server.validate()
        sites = self.server.roster.sites
        if reported_task(pl_module) is None and found:
            check_among(trainer, found, sites)
        rank_zero_info(
            f"After epoch {trainer.current_epoch + 1}, validation records of all sites: "
            + ", ".join(f"{name} {value:.3f}" for name, value in found.items() if name.rpartition("/")[2] not in sites)
        )
        log = patched(
            pl_module,
            validation_step=lambda *_, **__: pl_module.log_dict(found, batch_size=1),
            on_validation_epoch_end=lambda: None,
        )
        self._patches.enter_context(log)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._patches.close()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._patches.close()

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint.update(self.server.of_sites)


def _check_trainer(trainer: Any) -> None:
    for name, off in {"max_steps": -1, "fast_dev_run": False, "overfit_batches": 0.0}.items():
        if getattr(trainer, name) != off:
            raise InputError(f"{name} cannot be set in a federation; give the length of the run as max_epochs")
    if (trainer.max_epochs or -1) < 1:
        raise InputError("a federation needs max_epochs")
