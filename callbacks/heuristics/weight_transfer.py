"""WeightTransfer: the mechanics that every transfer heuristic shares."""

import inspect
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any, Literal, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.callbacks.baton_writer import BatonWriter
from lit_dist.callbacks.divergence import OnDivergence
from lit_dist.callbacks.fit_checks import (
    check_callbacks,
    check_fit,
    check_hyperparameters,
    check_interval,
    check_optimizers,
    check_trainer,
    set_validation,
)
from lit_dist.callbacks.heuristics.visit_course import VisitCourse
from lit_dist.callbacks.optimizer_states import OptimizerState
from lit_dist.checkpoints.run_lock import FitLock
from lit_dist.provenance.run_settings import callback_settings, note_end, settings_sha256
from lit_dist.provenance.visit_account import TransferState
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import go_on, make_resumable
from lit_dist.utils.method_patch import MethodPatch
from lit_dist.utils.one_lightning import warn_of_other_package
from lit_dist.visits.epoch_plan import EpochPlan, Stretch
from lit_dist.visits.itinerary import Itinerary, Visit
from lit_dist.visits.seeding import module_generators, pass_seed, run_seed, seed_torch, step_seed
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.site_source import SiteSource


class WeightTransfer(Callback, ABC):
    """Moves one model from site to site while Lightning trains it.

    In each epoch the training batches come from the site whose turn it is; at the end of a visit the weights stay in
    the module, and the next site goes on with them. That they are the same ones is checked by their SHA-256, and each
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
        on_divergence: When the loss or the weights become NaN or infinite, ``"stop"`` ends the run; ``"skip"`` goes on
            to the next site with the weights that came in, of which it keeps a copy.
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
        if optimizer_state not in ("reset", "carry", "local"):
            raise InputError(f"optimizer_state={optimizer_state!r} is not 'reset', 'carry' or 'local'")
        if on_divergence not in ("stop", "skip"):
            raise InputError(f"on_divergence={on_divergence!r} is not 'stop' or 'skip'")
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.optimizer_state = optimizer_state
        self.validation = validation
        self.seed = seed
        self.on_divergence = on_divergence
        self.baton_dir = baton_dir
        self._course = VisitCourse(optimizer_state, on_divergence)
        self.recorded: Collection[str] | None = None  # the metrics of training that the ledger may have; None: all
        self.left_out: Collection[str] = ()  # sites whose visits pass without training
        self._restored = False  # a checkpoint's state, for the fit that is to begin
        self._source: SiteSource | None = None
        self._bar: MethodPatch | None = None
        self._lock = FitLock()
        self._others: list[Any] | None = None  # the settings of the other callbacks, as they were before the run

    takes_part = False  # its settings are hashed by themselves

    @abstractmethod
    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """The heuristic: which site is visited when.

        Args:
            sites: The names of all sites, in the order of their loaders.
        """

    @property
    def visit(self) -> Visit | None:
        """The visit under way, or the last one that ended; None before the first."""
        return self._course.record.visit

    @property
    def visits_ended(self) -> int:
        """The number of visits that have ended."""
        return 0 if self.visit is None else self.visit.number + self._course.record.ended

    def settings(self) -> dict[str, Any]:
        """The settings that decide what a visit does: the constructor's arguments, the sites and the seed."""
        names = inspect.signature(type(self).__init__).parameters.keys() - {"self", "seed", "validation", "baton_dir"}
        given = {name: getattr(self, name) for name in sorted(names) if hasattr(self, name)}
        return {"class": type(self).__qualname__, **given, "sites": self.sites, "seed": run_seed(self.seed)}

    @property
    def settings_sha256(self) -> str:
        """The SHA-256 of the settings that decide what a visit does, once training has begun."""
        return self._course.record.settings

    def settings_by(self, rule: int) -> str:
        """The same as an older release has hashed them.

        Args:
            rule: The way of hashing, see ``lit_dist.provenance.run_settings``.
        """
        return settings_sha256(self._trainer, self.settings(), self._others, rule)

    def make_plan(self, itinerary: Itinerary) -> EpochPlan:
        """Which visits the trainer's epochs are made of; a heuristic whose visits vary in length overrides it.

        Args:
            itinerary: Which site is visited when.
        """
        return EpochPlan(itinerary, self.every_n_epochs, self.every_n_steps, run_seed(self.seed))

    def begin_run(self) -> None:
        """Forget an earlier run."""
        self._course = VisitCourse(self.optimizer_state, self.on_divergence)

    def before_hand_over(self, pl_module: LightningModule) -> None:
        """Called when a visit ends that has not diverged, before its weights are hashed and handed on.

        Args:
            pl_module: The module, whose weights may be changed.
        """

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
        if stage != "fit":
            return
        check_fit(trainer)
        check_trainer(trainer)
        check_callbacks(trainer.callbacks, WeightTransfer, self.every_n_steps is not None)  # type: ignore[attr-defined]
        self._lock.take(trainer)  # before a checkpoint is read
        check_hyperparameters(trainer)
        self._others = callback_settings(trainer)
        self._trainer = trainer
        self._check_val_every_n_epoch = trainer.check_val_every_n_epoch
        self._planning = True
        self._source = SiteSource(trainer, self._connect)
        if trainer.progress_bar_callback is not None:
            self._bar = MethodPatch(
                trainer.progress_bar_callback, "get_metrics", lambda *args: self._bar_metrics(*args)
            )

    def _connect(self, loader: SiteLoader) -> None:
        if len(loader.sites) < 2:
            raise InputError(f"there is only the site {loader.sites[0]!r}; a transfer needs at least two sites")
        self.sites = loader.sites
        self._plan = self.make_plan(self.itinerary(loader.sites))
        if not self._trainer.fast_dev_run:  # type: ignore[attr-defined]
            set_validation(self._trainer, self._plan, self.validation == "cycle")
        loader.place = self._trainer.strategy.root_device, self._trainer.global_rank
        loader.generators = module_generators(self._trainer.lightning_module)
        loader.plan = lambda: self._stretches(self._trainer.current_epoch)
        if self._planning:
            loader.estimate = lambda: self._plan.mean_batches(
                self._trainer.max_epochs or 0, self._trainer.accumulate_grad_batches, loader.batches
            )

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._source is not None
        check_optimizers(trainer)
        self._planning = False
        if self._source.loader is not None:  # asked for already, to estimate the number of steps
            self._source.loader.estimate = None
            self._source.replan(now=True)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._source is not None
        self._source.settle()
        go_on(trainer)
        check_interval(trainer, self._plan, self._loader)
        if trainer.global_step == 0 and not self._restored:  # the callback may have served another run before
            self.begin_run()
        self._restored = False
        if self.baton_dir and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._course.batons = BatonWriter(self.baton_dir, self.optimizer_state, self.state_key)
        self._course.record.metrics.allowed = self.recorded
        self._course.record.open_ledger(trainer, self.settings_by)
        self._course.go_on(trainer)
        for logger in trainer.loggers:
            logger.log_hyperparams({"sites": dict(enumerate(self.sites))})
        self._begin_epoch()

    @property
    def _loader(self) -> SiteLoader:
        assert self._source is not None
        assert self._source.loader is not None
        return self._source.loader

    # -- training --------------------------------------------------------------------------------------------------

    def _stretches(self, epoch: int) -> list[Stretch]:
        return self._plan.epoch(epoch, self._trainer.accumulate_grad_batches)

    def _begin_epoch(self) -> None:
        self._epoch = self._stretches(self._trainer.current_epoch)
        # Where each stretch but the last ends, counted in batches of the epoch.
        self._ends = list(accumulate(int(self._loader.batches(stretch)) for stretch in self._epoch[:-1]))
        self._stretch: Stretch | None = None

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._source is not None
        check_optimizers(trainer)  # a schedule may have spoilt them
        self._source.settle()
        self._begin_epoch()
        self._course.write_baton(trainer)

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        go_on(trainer)
        place = bisect_right(self._ends, batch_idx)
        stretch = self._epoch[place]
        if stretch is not self._stretch:
            self._begin_stretch(stretch)
            self._first_batch = self._ends[place - 1] if place else 0
        self._course.record.step(trainer)
        seed = step_seed(self._pass_seed, batch_idx - self._first_batch, trainer.global_rank)
        seed_torch(seed, pl_module.device)

    def _begin_stretch(self, stretch: Stretch) -> None:
        self._stretch = stretch
        self._pass_seed = pass_seed(self._plan.seed, stretch.visit, stretch.first_pass)
        visit = self._plan.itinerary.visit(stretch.visit)
        self._course.begin(self._trainer, visit, visit.site in self.left_out)
        if not self._trainer.barebones:
            self._log(visit)

    def _log(self, visit: Visit) -> None:
        # Lightning repeats a value in every logged step of the epoch until it is logged anew.
        fields = {"visit": visit.number, "cycle": visit.cycle, "site": self.sites.index(visit.site)}
        values = {name: float(value) for name, value in fields.items()}
        self._trainer.lightning_module.log_dict(values, on_step=True, on_epoch=False, batch_size=1)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ends_within = batch_idx + 1 in self._ends
        ends = ends_within or (trainer.is_last_batch and self._visit_ends_with_the_epoch())
        self._course.step(trainer, outputs, batch, batch_idx, ends)
        if ends:
            self._end_visit()  # before the validation that may follow, which is no part of the visit
        if ends_within:
            self._course.record.write()
            self._course.write_baton(trainer)

    def _end_visit(self) -> None:
        if self.visit is None or self._course.record.ended:
            return
        if not self._course.skipping:
            self.before_hand_over(self._trainer.lightning_module)
        self._course.end(self._trainer, self._plan.itinerary.site(self.visit.number + 1))

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            go_on(trainer)
            self._course.record.metrics.validation_starts(trainer)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._course.record.metrics.validation_ends(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._source is not None
        if trainer.is_last_batch and self._visit_ends_with_the_epoch():  # where the epoch's length was not known
            self._end_visit()
        self._course.record.write(trainer)
        following = self._stretches(trainer.current_epoch + 1)
        if {stretch.site for stretch in following} != {stretch.site for stretch in self._epoch}:
            self._source.replan()

    def _visit_ends_with_the_epoch(self) -> bool:
        return self._stretches(self._trainer.current_epoch + 1)[0].visit != self._epoch[-1].visit

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        record = self._course.record
        record.end(trainer, "cut short")  # a visit that the end of the run cuts short is on record too
        record.write(trainer)
        self._course.write_baton(trainer)

    def _bar_metrics(self, *args: Any) -> dict[str, Any]:
        assert self._bar is not None
        return {**({"site": self.visit.site} if self.visit else {}), **self._bar.original(*args)}

    # -- after training --------------------------------------------------------------------------------------------

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._close()

    def _close(self) -> None:
        self._course.close()
        if self._source is not None:
            self._source.close()
            self._source = None
            self._trainer.check_val_every_n_epoch = self._check_val_every_n_epoch
            note_end(self._trainer)
        if self._bar is not None:
            self._bar.lift()
            self._bar = None
        self._lock.give_back()

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._source is not None:  # in a fit
            make_resumable(checkpoint, trainer)
            self._course.record.kept = True

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**self._course.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._course.load_state_dict(cast(TransferState, state_dict))
        self._restored = True


def find_transfer(trainer: Trainer) -> WeightTransfer | None:
    """A trainer's transfer callback; None if it has none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, WeightTransfer)), None)


def require_transfer(trainer: Trainer) -> WeightTransfer:
    """A trainer's transfer callback.

    Raises:
        InputError: If it has none.
    """
    transfer = find_transfer(trainer)
    if transfer is None:
        raise InputError("the model travels only with a transfer callback, such as CyclicalWeightTransfer")
    return transfer
