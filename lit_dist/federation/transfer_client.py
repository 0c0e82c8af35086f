"""TransferClient: what a site does in a run in which the model travels."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.callbacks.heuristics.find_transfer import require_transfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import LEDGER, run_folder
from lit_dist.federation.callback_memory import refuse_memory
from lit_dist.federation.client import SiteClient, own_loader, run_id
from lit_dist.federation.limits import Limiter, describe_fit, place_of
from lit_dist.federation.partial_fit import AwayError, Elsewhere, away, partial_fit, with_callback
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.site_state import SiteState
from lit_dist.federation.travelling_state import split
from lit_dist.federation.validate_question import (
    check_batches,
    check_names,
    check_sent_weights,
    check_step,
    check_train,
)
from lit_dist.federation.wire import Tree
from lit_dist.models.learn_preparation import in_order
from lit_dist.models.table_preparation import TablePreparation
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.visit_account import transfer_state
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import dump_checkpoint, set_root
from lit_dist.utils.method_patch import patched
from lit_dist.visits.visit_callback import local_names, visit_callbacks


class TransferClient(SiteClient):
    """Resumes the run from a baton, and gives the next one back; takes what ``SiteClient`` takes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transfer = require_transfer(self.trainer)
        self._limiter = Limiter(self.own, self.name, self.transfer, self.counts)
        self.trainer.callbacks.append(self._limiter)  # type: ignore[attr-defined]
        self.transfer.recorded = self.own.metrics
        self.transfer.at_site, self.transfer.stop_before = True, away
        self._folder = Path(self.trainer.default_root_dir) / "stays"  # one in it for each run
        self._own: Tree = {}  # the baton of a fit that begins here
        self._batches = 0  # of this site's images

    @property
    @override
    def questions(self) -> Mapping[str, Callable[[Tree], Tree]]:
        questions: dict[str, Callable[[Tree], Tree]] = {"estimate": self.estimate} if self._preparation else {}
        return {
            **questions,
            "greet": self.greet,
            "settings": self.settings,
            "train": self.train,
            "validate": self.validate,
        }

    @property
    def _preparation(self) -> TablePreparation | None:
        part = getattr(self.module, "preparation", None)
        return part if isinstance(part, TablePreparation) else None

    @override
    def greet(self, content: Tree) -> Tree:
        greeting = super().greet(content)
        if self.trainer.world_size > 1:  # only a fit knows how many batches each process gets
            self._begin({self.name: 1, "another site": 1})
            greeting["batches"] = len(self.trainer.train_dataloader[self.name])  # type: ignore[index]
        return greeting

    def settings(self, content: Tree) -> Tree:
        """The SHA-256 of the settings that decide what a visit does."""
        check_names(content, {"batches"})
        check_batches(content["batches"], self.name)
        self._limiter.check_length(self.trainer.max_epochs or 1)
        self._begin(content["batches"])
        self._limiter.check_plan(self.trainer.max_epochs or 1, self.trainer.accumulate_grad_batches, self._passes)
        return {"settings": self.transfer.settings_sha256}

    def _begin(self, batches: Mapping[str, int]) -> None:
        """Begin a fit, and end it before its first batch."""
        asking = AtStart()
        self._limiter.fit = None
        with with_callback(self.trainer, asking):
            self._fit_here(batches, None)
        self._own, _ = split(asking.state, self.trainer, self.transfer)
        self._settings = self.transfer.settings_sha256

    def estimate(self, content: Tree) -> Tree:
        """Sums and counts over the training records here, of which a table's preparation is learnt."""
        check_names(content, set())
        assert self._preparation is not None
        self.data.prepare_data()
        self.data.setup("fit")
        sums = self._preparation.sums(in_order(own_loader(self.data.train_dataloader(), self.name)))
        self.counts.estimate(fingerprint(sums)[0], self.own)
        return {"sums": sums}

    def train(self, content: Tree) -> Tree:
        """Resume the run from a baton, until it needs what is not here."""
        check_names(content, {"baton", "batches", "visit", "left_out"})
        check_batches(content["batches"], self.name)
        if not self._own:
            self._begin(content["batches"])
        own, optimizers = self.module.state_dict(), self.trainer.optimizers
        baton = check_train(content, own, self._own, self.transfer, optimizers)
        key = self.transfer.state_key
        folder = self._folder / run_id(transfer_state(baton, key)["record"]["run"])
        by_steps = bool(self.transfer.every_n_steps)
        fit = describe_fit({**content, "baton": baton}, key, by_steps, self._settings, self._passes)
        self._limiter.begin(fit)
        set_root(self.trainer, folder)  # the partial fit's ledger is the run's, too
        kept = SiteState(folder, self.name, self.transfer)
        ledger = run_folder(self.trainer) / LEDGER
        ledger.unlink(missing_ok=True)
        try:
            itinerary = self.transfer.itinerary(list(content["batches"]))
            came_before = any(itinerary.site(visit) == self.name for visit in range(content["visit"]))
            state = kept.join(baton, content["visit"], content["left_out"], came_before)
            with refuse_memory(self.trainer):
                pause = self._fit_here(content["batches"], state)
        except InputError as error:
            if ledger.exists() and any(entry.outcome == "diverged" for entry in read_entries(ledger)):
                raise Refusal(str(error)) from None  # it names the step, and what is not finite
            raise
        ended = pause is None or transfer_state(pause.state, key)["record"]["ended"]
        if not ended and local_names(self.trainer, self.module):
            raise Refusal("the visit would leave within it, with weights or buffers in the model that are to stay here")
        self.module.zero_grad()  # gradients are as large as the weights
        if pause is None:
            raise Refusal("a callback or hook of this site ended the fit; that is for the server to do")
        if not self.trainer.is_global_zero:
            return {}  # the first process keeps what stays, and answers
        going, staying = split(pause.state, self.trainer, self.transfer)
        kept.keep(pause.state["global_step"], staying)
        over = going["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
        self.counts.end(fit, fingerprint(going["state_dict"])[0], place_of(going), over)
        return {"baton": going, "entries": self._lines(ledger, going)}

    @property
    def _passes(self) -> int:
        """How often a visit goes through the images here in an epoch, rounded up."""
        batches = (self.transfer.every_n_steps or 0) * self.trainer.accumulate_grad_batches
        return max(1, math.ceil(batches / max(1, self._batches)))

    def _fit_here(self, batches: Mapping[str, int], state: Tree | None) -> Any:
        own = self.data.train_dataloader
        # Where a validation begins, the run continues at the server.
        with patched(self.data, train_dataloader=lambda: self._loaders(own(), batches), val_dataloader=lambda: [0]):
            return partial_fit(self.trainer, self.module, self.data, state, at_site=True)

    def _loaders(self, own: Any, batches: Mapping[str, int]) -> dict[str, Any]:
        here = {self.name: own_loader(own, self.name)}
        self._batches = len(here[self.name])
        return {site: here.get(site, Elsewhere(site, number)) for site, number in batches.items()}

    def _lines(self, ledger: Path, baton: Tree) -> list[str]:
        """The lines of this partial fit. One that waits for the validation's metrics is the server's to write."""
        head = transfer_state(baton, self.transfer.state_key)["record"]["head"]
        entries = read_entries(ledger) if ledger.exists() else []
        last = max((place for place, entry in enumerate(entries, start=1) if entry.sha256 == head), default=0)
        return [entry.line for entry in entries[:last]]

    def validate(self, content: Tree) -> Tree:
        """How the model performs with the server's weights on this site's validation images."""
        check_names(content, {"state_dict", "run", "step", "left_out"})
        step = check_step(content["step"], content["left_out"], self.name)
        weights = check_sent_weights(content["state_dict"], self.module.state_dict(), "the server's weights")
        self.counts.validate(fingerprint(weights)[0], self.own)
        self.module.load_state_dict(weights)
        kept = SiteState(self._folder / run_id(content["run"]), self.name, self.transfer).staying(step)
        for callback in visit_callbacks(self.trainer):  # which may have seen another visit last, or none
            callback.put_staying(self.name, kept.get(callback.state_key, {}))
        return self.evaluate(self.module, self.trainer)


class AtStart(Callback):
    """Ends a fit before its first batch, and keeps its state."""

    state: Tree

    takes_part = False

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.state = dump_checkpoint(trainer)
        raise AwayError("")
