"""Single weight transfer: each site once, until its validation loss no longer falls."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_arguments, check_choice
from lit_dist.visits.epoch_plan import EpochPlan
from lit_dist.visits.itinerary import Itinerary, Order, ordered
from lit_dist.visits.plateau_plan import PlateauPlan
from lit_dist.visits.seeding import run_seed


class SingleWeightTransfer(WeightTransfer):
    """Train at each site until a plateau, hand the weights to the next, and end after the last site.

    After each validation the metric is compared with the best of the visit. The weights are handed over when it has
    not improved for ``patience`` validations, or after ``max_epochs_per_site`` epochs. Source: Chang et al.,
    "Distributed deep learning networks among institutions for medical imaging", JAMIA 2018,
    https://doi.org/10.1093/jamia/ocy017.

    Args:
        monitor: The metric; ``"val_loss/{site}"`` is that of the visited site's own validation images.
        mode: Whether the metric improves by falling or by rising.
        patience: The number of validations without improvement that make a plateau.
        min_delta: The least change that is an improvement.
        max_epochs_per_site: The greatest length of a visit in epochs.
        hand_over: ``"best"`` hands over the weights of the best validation of the visit, ``"last"`` the last ones. A
            plateau is noticed ``patience`` validations late, in which a network learns its site's images by heart, so
            the best ones are the default. They are kept in memory.
        order: ``"fixed"`` (as the loaders are given), ``"shuffled"``, or the names of the sites to visit.
        **kwargs: Those of ``WeightTransfer`` but for the length of a visit and ``validation``.

    Raises:
        InputError: If a setting is out of range; when the fit starts, if the training data is not one loader a site,
            or ``order`` names a site that is not there; after a validation that did not log the metric.

    Example:
        >>> transfer = SingleWeightTransfer(patience=3)
        >>> [transfer.itinerary(["mgh", "ucsf"]).site(visit) for visit in range(2)]
        ['mgh', 'ucsf']
    """

    fixed_arguments = ("every_n_epochs", "every_n_steps", "validation")

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        patience: int = 5,
        min_delta: float = 0.0,
        max_epochs_per_site: int | None = None,
        hand_over: Literal["best", "last"] = "best",
        order: Order | list[str] = "fixed",
        **kwargs: Any,
    ) -> None:
        check_arguments(SingleWeightTransfer, kwargs)
        super().__init__(every_n_epochs=1, every_n_steps=None, validation="trainer", **kwargs)
        if patience < 1 or min_delta < 0 or (max_epochs_per_site is not None and max_epochs_per_site < 1):
            raise InputError(
                f"patience={patience} and max_epochs_per_site={max_epochs_per_site} count from 1, and"
                f" min_delta={min_delta} from 0"
            )
        check_choice(("min", "max"), mode=mode)
        check_choice(("best", "last"), hand_over=hand_over)
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.min_delta = min_delta
        self.max_epochs_per_site = max_epochs_per_site
        self.hand_over = hand_over
        self.order = order
        self._starts: tuple[int, ...] = (0,)
        self._begin_watch()

    def _begin_watch(self) -> None:
        self._best = math.inf
        self._waited = 0
        self._plateau = False
        self._best_weights: dict[str, Any] | None = None

    @override
    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """The sites in the given order; the run ends after the last."""
        return ordered(sites, self.order, run_seed(self.seed))

    @override
    def make_plan(self, itinerary: Itinerary) -> EpochPlan:
        """The visits as far as they have been decided on."""
        return PlateauPlan(itinerary, 1, None, run_seed(self.seed), self._starts)

    @override
    def begin_run(self) -> None:
        super().begin_run()
        self._starts = (0,)
        self._plan = self.make_plan(self._plan.itinerary)
        self._begin_watch()

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.max_epochs_per_site is None and not trainer.enable_validation:
            raise InputError(
                "SingleWeightTransfer hands over at a plateau of a validation, and this fit validates nothing: it would"
                " stay at the first site: give validation loaders, or max_epochs_per_site"
            )
        self._stop_after_the_last(trainer)

    # The decision is made here and applied at the epoch's end: a checkpoint that is written between holds it, and
    # Lightning resumes the epoch that the checkpoint was written in.
    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.sanity_checking or self.visit is None:
            return
        name = self.monitor.format(site=self.visit.site)
        if name not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise InputError(
                f"SingleWeightTransfer monitors {name!r}, which no validation has logged; there is {known}"
            )
        value = float(trainer.callback_metrics[name]) * (1 if self.mode == "min" else -1)
        if math.isnan(value):
            rank_zero_warn(f"{name!r}, which SingleWeightTransfer monitors, is NaN, so no epoch counts as better")
        better = trainer.strategy.reduce_boolean_decision(value < self._best - self.min_delta)
        self._waited = 0 if better else self._waited + 1
        if better:
            self._best = value
            if self.hand_over == "best":
                state = trainer.strategy.lightning_module_state_dict()
                self._best_weights = {key: tensor.detach().clone() for key, tensor in state.items()}
        self._plateau = self._waited >= self.patience

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.current_epoch + 1 - self._starts[-1]
        nobody_trains = self.visit is not None and self.visit.site in self.left_out
        visit_ends = self._plateau or nobody_trains or epochs == self.max_epochs_per_site
        if visit_ends:
            self._starts = (*self._starts, trainer.current_epoch + 1)
            self._plan = self.make_plan(self._plan.itinerary)
            self._stop_after_the_last(trainer)
        super().on_train_epoch_end(trainer, pl_module)
        if visit_ends:
            self._begin_watch()

    @property
    def finished(self) -> bool:
        """Whether every site has been visited."""
        return hasattr(self, "_plan") and len(self._starts) > len(self._plan.itinerary.sites)

    def _stop_after_the_last(self, trainer: Trainer) -> None:
        if self.finished:
            trainer.should_stop = True

    @override
    def before_hand_over(self, pl_module: LightningModule) -> None:
        if self._best_weights is not None:
            pl_module.load_state_dict(self._best_weights)

    @override
    def state_dict(self) -> dict[str, Any]:
        watch = (self._best, self._waited, self._plateau, self._best_weights)
        return {**super().state_dict(), "starts": self._starts, "watch": watch}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._starts = tuple(state_dict["starts"])
        self._best, self._waited, self._plateau, self._best_weights = state_dict["watch"]
