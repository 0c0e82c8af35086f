"""Federated averaging: each round, every site trains from the same weights, and the next begins with their mean."""

from collections.abc import Sequence
from typing import Any, get_args

from typing_extensions import override

from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.provenance.merge import Weighting
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_arguments, check_choice, check_count
from lit_dist.visits.itinerary import Itinerary, Rounds

_MOST = 10**9


class FederatedAveraging(WeightTransfer):
    """Train at every site from the same weights, and let the next round begin with the mean of what they have become.

    The mean is ``sum n_k w_k / sum n_k``, in double precision and in the order of the sites, where ``n_k`` is the
    number of images that site k has trained on in the round, or 1. A site that is absent, or whose visit is skipped, is
    left out of both sums. Buffers are averaged as weights are, but for counters and other integers, which are those of
    the last site. Validation and the best model see the mean, after whole rounds. Source: McMahan et al.,
    "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017,
    https://arxiv.org/abs/1602.05629, algorithm 1.

    An epoch of the trainer is still one site's (with ``every_n_steps``, one round): so many epochs train as long as
    those of ``CyclicalWeightTransfer``. The optimizer's schedules continue within a round from the mean: they see as
    many epochs or steps as the last site of each round, and no others.

    Args:
        every_n_epochs: The length of a visit in epochs; give this or ``every_n_steps``.
        every_n_steps: The length of a visit in optimizer steps; give this or ``every_n_epochs``.
        weighting: What a site counts: its ``"images"``, or ``"equal"``.
        ring: The number of sites in a ring: within it the weights go from one site to the next, and what they have
            become is merged with that of the other rings. With all sites in one, this is ``CyclicalWeightTransfer``.
        cycles_first: So many cycles come first in which the weights go from site to site, without a merge (CyclicFL,
            https://arxiv.org/abs/2301.12193).
        rounds: After so many rounds the weights go from site to site again; None never ends averaging.
        optimizer_state: ``"reset"`` or ``"local"``, as in ``WeightTransfer``.
        **kwargs: The others of ``WeightTransfer``, without ``validation``.

    Raises:
        InputError: As ``WeightTransfer``; if the optimizer's state is to be carried; when the fit starts, if it
            validates within rounds, or the trainer's strategy, precision or another callback does not go with a mean.

    Example:
        >>> averaging = FederatedAveraging(every_n_epochs=1)
        >>> itinerary = averaging.itinerary(["mgh", "ucsf"])
        >>> [(itinerary.site(visit), itinerary.merges_after(visit)) for visit in range(3)]
        [('mgh', False), ('ucsf', True), ('mgh', False)]
    """

    fixed_arguments: tuple[str, ...] = ("validation",)

    def __init__(
        self,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        weighting: Weighting = "images",
        ring: int = 1,
        cycles_first: int = 0,
        rounds: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_arguments(FederatedAveraging, kwargs)
        check_choice(get_args(Weighting), weighting=weighting)
        check_count(1, _MOST, ring=ring, rounds=1 if rounds is None else rounds)
        check_count(0, _MOST, cycles_first=cycles_first)
        self.weighting = weighting
        self.ring = ring
        self.cycles_first = cycles_first
        self.rounds = rounds
        super().__init__(every_n_epochs, every_n_steps, validation="cycle", **kwargs)
        if self.optimizer_state == "carry":
            raise InputError(
                "optimizer_state='carry' has nowhere to go in federated averaging, where visits begin with a mean; use"
                " 'reset', or 'local', with which each site keeps its own"
            )

    @override
    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """Every site once a round, each ring of them from the last merge."""
        return Rounds(sites, self.ring, self.cycles_first, self.rounds)
