"""Cyclical weight transfer: round and round over the sites."""

from collections.abc import Sequence
from typing import Literal

from typing_extensions import override

from lit_dist.callbacks.divergence import OnDivergence
from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.callbacks.optimizer_states import OptimizerState
from lit_dist.visits.itinerary import Itinerary, Order, ordered
from lit_dist.visits.seeding import run_seed


class CyclicalWeightTransfer(WeightTransfer):
    """Train at each site for a while, hand the weights to the next, and go round and round.

    The more often the weights move, the closer the paper came to training on centrally hosted data. Source: Chang et
    al., "Distributed deep learning networks among institutions for medical imaging", JAMIA 2018,
    https://doi.org/10.1093/jamia/ocy017.

    Args:
        every_n_epochs: The length of a visit in epochs; give this or ``every_n_steps``.
        every_n_steps: The length of a visit in optimizer steps; give this or ``every_n_epochs``.
        order: ``"fixed"`` (as the loaders are given), ``"shuffled"`` (anew each cycle), ``"no_repeat"`` (shuffled,
            but never the same site twice running), or the names of the sites to visit.
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
        InputError: If both intervals are given or neither; when the fit starts, if the training data is not one loader
            a site, or ``order`` names a site that is not there; in a visit that diverges.

    Example:
        >>> transfer = CyclicalWeightTransfer(every_n_epochs=1)
        >>> itinerary = transfer.itinerary(["mgh", "ucsf"])
        >>> [itinerary.site(visit) for visit in range(3)]
        ['mgh', 'ucsf', 'mgh']
    """

    def __init__(
        self,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        order: Order | list[str] = "fixed",
        optimizer_state: OptimizerState = "reset",
        validation: Literal["trainer", "cycle"] = "trainer",
        seed: int | None = None,
        on_divergence: OnDivergence = "stop",
        baton_dir: str | None = None,
    ) -> None:
        super().__init__(every_n_epochs, every_n_steps, optimizer_state, validation, seed, on_divergence, baton_dir)
        self.order = order

    @override
    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """The sites in the given order, round and round."""
        return ordered(sites, self.order, run_seed(self.seed))
