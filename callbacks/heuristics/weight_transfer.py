"""WeightTransfer: the mechanics that every transfer heuristic shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, cast, get_args

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lit_dist.callbacks import fit_checks
from lit_dist.callbacks.baton_writer import BatonWriter
from lit_dist.callbacks.divergence import OnDivergence
from lit_dist.callbacks.heuristics.visit_events import VisitEvents
from lit_dist.callbacks.logged_monitors import check_logged
from lit_dist.callbacks.optimizer_states import OptimizerState
from lit_dist.callbacks.site_validation import SiteValidation
from lit_dist.callbacks.visit_display import VisitDisplay
from lit_dist.checkpoints.checkpoint_io import SafetensorsCheckpointIO
from lit_dist.checkpoints.run_lock import FitLock
from lit_dist.provenance.merge import Weighting
from lit_dist.provenance.run_settings import callback_settings, note_end, settings_sha256
from lit_dist.provenance.visit_account import TransferState
from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import whole
from lit_dist.utils.lightning_internals import end_restart, make_resumable
from lit_dist.utils.method_patch import MethodPatch
from lit_dist.utils.one_lightning import warn_of_other_package
from lit_dist.utils.setting_checks import check_choice
from lit_dist.utils.signatures import parameters
from lit_dist.visits.epoch_plan import EpochPlan, Stretch
from lit_dist.visits.itinerary import Itinerary, Visit
from lit_dist.visits.seeding import run_seed
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.visit_batches import VisitBatches


class WeightTransfer(SiteValidation, ABC):
    """Moves one model from site to site while Lightning trains it.

    In each epoch the training batches come from the site whose turn it is; at the end of a visit the weights stay in
    the module, and the next site continues from them. That they are the same ones is checked by their SHA-256, and each
    visit leaves a line in ``ledger.jsonl`` in the run's folder. A new heuristic implements ``itinerary``.

    A visit lasts ``every_n_epochs`` passes over the site's images, each of which is an epoch of the trainer; or
    ``every_n_steps`` optimizer steps, and then an epoch of the trainer is one cycle. With steps, each visit draws its
    site's images in a new order, several times where there are not enough.

    Everything random in a visit draws from the run's seed and the visit's number (see ``lit_dist.visits.seeding``).

    Args:
        every_n_epochs: The length of a visit in epochs; give this or ``every_n_steps``.
        every_n_steps: The length of a visit in optimizer steps; give this or ``every_n_epochs``.
        optimizer_state: What becomes of momentum and the like at a transfer: ``"reset"`` (only weights travel),
            ``"carry"`` (it travels too) or ``"local"`` (each site keeps its own).
        validation: ``"trainer"`` leaves it to the trainer when to validate; ``"cycle"`` validates after each whole
            cycle, unless the trainer's ``check_val_every_n_epoch`` was set to something else than 1.
        seed: The run's seed; None takes that of ``seed_everything``, or 0.
        on_divergence: When the loss or the weights become NaN or infinite, ``"stop"`` ends the run; ``"skip"``
            continues at the next site with the weights that came in, of which it keeps a copy.
        baton_dir: A folder to keep each baton in, so that any visit can be repeated and compared (``lit-dist verify
            --replay``); a relative path is one inside the run's folder. None keeps none.

    Raises:
        InputError: If both intervals are given or neither, or one is not positive; when the fit starts, if the
            training data is not one loader a site, another transfer callback is there, or another process trains in the
            run's folder; in a visit that diverges.
    """

    def __init__(
        self,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        optimizer_state: OptimizerState = "reset",
        validation: Literal["trainer", "cycle"] = "trainer",
        seed: int | None = None,
        on_divergence: OnDivergence = "stop",
        baton_dir: str | None = None,
    ) -> None:
        warn_of_other_package()
        if (every_n_epochs is None) == (every_n_steps is None):
            raise InputError("give every_n_epochs or every_n_steps, and only one of them")
        if (every_n_epochs or every_n_steps or 0) < 1:
            raise InputError("every_n_epochs and every_n_steps count from 1")
        check_choice(get_args(OptimizerState), optimizer_state=optimizer_state)
        check_choice(get_args(OnDivergence), on_divergence=on_divergence)
        check_choice(("trainer", "cycle"), validation=validation)
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.optimizer_state = optimizer_state
        self.validation = validation
        self.seed = seed
        self.on_divergence = on_divergence
        self.baton_dir = baton_dir
        self._events = VisitEvents(optimizer_state, on_divergence, self.weighting)
        self.at_site = False  # in a federation: what its visits come to is merged and pooled elsewhere
        self.stop_before: Callable[[str], None] | None = None  # there: ends a fit before a visit at a site
        self.recorded: Collection[str] | None = None  # the metrics of training that the ledger may have; None: all
        self.left_out: Collection[str] = ()  # sites whose visits pass without training
        self._first_visit: int | None = None  # of a fit
        self._restored = False  # a checkpoint's state, for the fit that is to begin
        self._in_fit = False
        self._own_hook: MethodPatch | None = None  # the module's on_train_batch_end, in a fit
        self._lock = FitLock()
        self._others: list[Any] | None = None  # the settings of the other callbacks, as they were before the run

    weighting: Weighting = "images"  # what a visit counts where an itinerary merges

    @abstractmethod
    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """The heuristic: which site is visited when.

        Args:
            sites: The names of all sites, in the order of their loaders.
        """

    @property
    def visit(self) -> Visit | None:
        """The visit under way, or the last one that ended; None before the first."""
        return self._events.visit

    @property
    def visits_ended(self) -> int:
        """The number of visits that have ended."""
        return self._events.visits_ended

    @property
    def weights_of(self) -> str:
        """Whose weights the module has between two visits, for messages."""
        return self._events.weights_of

    def settings(self) -> dict[str, Any]:
        """The settings that decide what a visit does: the constructor's arguments, the sites and the seed."""
        names = parameters(type(self))[0].keys() - {"seed", "validation", "baton_dir"}
        given = {name: getattr(self, name) for name in sorted(names) if hasattr(self, name)}
        return {"class": type(self).__qualname__, **given, "sites": self.sites, "seed": run_seed(self.seed)}

    @property
    def run_id(self) -> str:
        """The run's id, once training has begun."""
        return self._events.record.run_id

    @property
    def settings_sha256(self) -> str:
        """The SHA-256 of the settings that decide what a visit does, once training has begun."""
        return self._events.record.settings

    def settings_by(self, rule: int) -> str:
        """The same by the rule of an older release, see ``lit_dist.provenance.run_settings``."""
        return settings_sha256(self._trainer, self.settings(), self._others, rule)

    def make_plan(self, itinerary: Itinerary) -> EpochPlan:
        """Which visits the trainer's epochs are made of; a heuristic whose visits vary in length overrides it."""
        return EpochPlan(itinerary, self.every_n_epochs, self.every_n_steps, run_seed(self.seed))

    def begin_run(self) -> None:
        """Forget an earlier run."""
        self._events = VisitEvents(self.optimizer_state, self.on_divergence, self.weighting)

    def before_hand_over(self, pl_module: LightningModule) -> None:
        """Change, if need be, the weights of a visit that has ended without diverging, before they are hashed."""

    @property
    def state_key(self) -> str:
        """Tells this callback's state in a checkpoint from that of another."""
        return self._generate_state_key(
            every_n_epochs=self.every_n_epochs,
            every_n_steps=self.every_n_steps,
            optimizer_state=self.optimizer_state,
        )

    # -- before training -------------------------------------------------------------------------------------------

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        fit_checks.check_fit(trainer)
        fit_checks.check_trainer(trainer)
        fit_checks.check_callbacks(trainer.callbacks, WeightTransfer, self.every_n_steps is not None)  # type: ignore[attr-defined]
        self._lock.take(trainer)  # before a checkpoint is read
        fit_checks.check_hyperparameters(trainer)
        self._others = callback_settings(trainer)
        self._trainer, self._first_visit = trainer, None
        self._check_val_every_n_epoch = trainer.check_val_every_n_epoch
        self._batches = VisitBatches(trainer, self._connect, lambda: self._plan)
        self._display = VisitDisplay(trainer, lambda: self.visit)
        self._in_fit = True

    def _connect(self, loader: SiteLoader) -> None:
        if len(loader.sites) < 2:
            raise InputError(f"there is only the site {loader.sites[0]!r}; a transfer needs at least two sites")
        self.sites = loader.sites
        loader.before_pass = self._before_pass
        self._plan = self.make_plan(self.itinerary(loader.sites))
        self._events.itinerary = self._plan.itinerary  # also of a fit with nothing left to train
        if not self._trainer.fast_dev_run:  # type: ignore[attr-defined]
            fit_checks.set_validation(self._trainer, self._plan, self.validation == "cycle")

    def _before_pass(self, stretch: Stretch) -> None:
        """In a federation with merges let a site make one visit, since what the next begins with may be elsewhere."""
        if self._first_visit is None:
            self._first_visit = stretch.visit
        if self.stop_before is not None and self._plan.itinerary.merges and stretch.visit != self._first_visit:
            self.stop_before(stretch.site)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fit_checks.check_initialized(pl_module)
        fit_checks.check_optimizers(trainer)
        self._batches.begin_fit()

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches.settle()
        end_restart(trainer)
        assert self._batches.loader is not None
        fit_checks.check_interval(trainer, self._plan, self._batches.loader)
        if self._plan.itinerary.merges:
            fit_checks.check_rounds(trainer, self._plan)
        new = trainer.global_step == 0 and not self._restored
        if new:  # the callback may have served another run before
            self.begin_run()
        self._restored = False
        batons = BatonWriter(self.baton_dir, self.optimizer_state, self.state_key) if self.baton_dir else None
        self._events.itinerary, self._events.at_site = self._plan.itinerary, self.at_site
        self._events.on_train_start(trainer, self.settings_by, self.recorded, batons, new)
        self._own_hook = MethodPatch(pl_module, "on_train_batch_end", lambda *_, **__: None)
        check_logged(trainer, pl_module, self, self.sites)
        self._display.on_train_start(self.sites)
        self._batches.begin_epoch()

    # -- training --------------------------------------------------------------------------------------------------

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fit_checks.check_optimizers(trainer)  # a schedule may have spoilt them
        self._batches.settle()
        self._batches.begin_epoch()
        self._events.write_baton(trainer)

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        end_restart(trainer)
        stretch = self._batches.enter(batch_idx)
        if stretch is not None:
            visit = self._plan.itinerary.visit(stretch.visit)
            self._events.on_visit_start(trainer, visit, visit.site in self.left_out)
            self._display.on_visit_start(visit)
        self._events.on_step_start(trainer)
        self._batches.seed_step(batch_idx)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._own_hook is not None
        ends_within = self._batches.visit_ends_within(batch_idx)
        ends = ends_within or (trainer.is_last_batch and self._batches.visit_ends_with_epoch())
        if not self._events.passing:  # the module's own hook belongs to the visit, which may end here
            self._own_hook.original(outputs, batch, batch_idx)
        self._events.on_step_end(trainer, outputs, self._batches.counted(batch), batch_idx, ends)
        if ends:  # before the validation that may follow, which is not part of the visit
            self._events.on_visit_end(trainer, self.before_hand_over)
        if ends_within:
            self._events.record.write()
            self._events.write_baton(trainer)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if not trainer.sanity_checking:
            end_restart(trainer)
            self._events.metrics.validation_starts(trainer)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._events.metrics.validation_ends(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_last_batch and self._batches.visit_ends_with_epoch():  # where the epoch's length was not known
            self._events.on_visit_end(trainer, self.before_hand_over)
        self._events.record.write(trainer)
        self._batches.end_epoch()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._events.on_train_end(trainer)

    # -- after training --------------------------------------------------------------------------------------------

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._close()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        if stage == "fit":
            if self._in_fit:
                self._events.leave_round(trainer)
            self._close()

    def _close(self) -> None:
        self._events.close()
        if self._own_hook is not None:
            self._own_hook.lift()
            self._own_hook = None
        if self._in_fit:
            self._in_fit = False
            self._batches.close()
            self._trainer.check_val_every_n_epoch = self._check_val_every_n_epoch
            note_end(self._trainer)
            self._display.close()
        self._lock.give_back()

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not isinstance(trainer.strategy.checkpoint_io, SafetensorsCheckpointIO):
            checkpoint["callbacks"] = whole(checkpoint["callbacks"])
        if self._in_fit:
            make_resumable(checkpoint, trainer)
            self._events.record.kept = True  # the line that waits

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**self._events.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._events.load_state_dict(cast(TransferState, state_dict))
        self._restored = True
