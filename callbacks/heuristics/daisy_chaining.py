"""Federated daisy-chaining: one model a site, which goes from site to site for a while before all are averaged."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from lit_dist.callbacks.heuristics.federated_averaging import FederatedAveraging
from lit_dist.provenance.merge import Weighting
from lit_dist.utils.setting_checks import check_count
from lit_dist.visits.itinerary import DaisyChains, Itinerary
from lit_dist.visits.seeding import run_seed


class DaisyChaining(FederatedAveraging):
    """Let as many models as there are sites train on chains of sites, and average them every few visits (FedDC).

    All models of a round begin with the last mean, each at one of the sites. After each visit they change places at
    random, so that each site has one of them at a time. After ``average_every`` visits of each, the next round begins
    with their mean, in which each counts what it was trained on. ``average_every=1`` is ``FederatedAveraging``. Source:
    Kamp, Fischer and Vreeken, "Federated learning from small datasets", ICLR 2023, https://arxiv.org/abs/2110.03469,
    algorithm 1, with a permutation after each visit.

    In a simulation one model after another makes its visits of a round, so that no more than the last mean, one model
    and a sum are in memory. A cycle of the run, as in ``validation="cycle"``, is a round: ``average_every`` visits at
    each site. With ``every_n_steps`` that is an epoch of the trainer.

    Args:
        every_n_epochs: The length of a visit in epochs; give this or ``every_n_steps``.
        every_n_steps: The length of a visit in optimizer steps; give this or ``every_n_epochs``.
        average_every: After how many visits of each model they are averaged, from 1.
        weighting: What a model counts: the ``"images"`` that it was trained on, or ``"equal"``.
        **kwargs: The others of ``FederatedAveraging``, without ``ring``, ``cycles_first`` and ``rounds``.

    Raises:
        InputError: As ``FederatedAveraging``; if ``average_every`` is not a whole number from 1.

    Example:
        >>> itinerary = DaisyChaining(every_n_epochs=1, average_every=3).itinerary(["mgh", "ucsf"])
        >>> [visit for visit in range(12) if itinerary.merges_after(visit)]
        [5, 11]
    """

    fixed_arguments = ("validation", "ring", "cycles_first", "rounds")

    def __init__(
        self,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        average_every: int = 2,
        weighting: Weighting = "images",
        **kwargs: Any,
    ) -> None:
        check_count(1, 10**6, average_every=average_every)
        self.average_every = average_every
        super().__init__(every_n_epochs, every_n_steps, weighting, ring=1, cycles_first=0, rounds=None, **kwargs)

    @override
    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """The visits of a round, model by model."""
        return DaisyChains(sites, self.average_every, run_seed(self.seed))
