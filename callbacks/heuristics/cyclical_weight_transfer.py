"""Cyclical weight transfer: round and round over the sites."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.utils.setting_checks import check_arguments
from lit_dist.visits.itinerary import Itinerary, Order, ordered
from lit_dist.visits.seeding import run_seed


class CyclicalWeightTransfer(WeightTransfer):
    """Train at each site for a while, hand the weights to the next, and go round and round.

    The more often the weights move, the closer the paper came to training on centrally hosted data. Source: Chang et
    al., "Distributed deep learning networks among institutions for medical imaging", JAMIA 2018,
    https://doi.org/10.1093/jamia/ocy017.

    Args:
        *args: Those of ``WeightTransfer``: ``every_n_epochs``, and so on.
        order: ``"fixed"`` (as the loaders are given), ``"shuffled"`` (anew each cycle), ``"no_repeat"`` (shuffled,
            but never the same site twice running), or the names of the sites to visit.
        **kwargs: Those of ``WeightTransfer``.

    Raises:
        InputError: As ``WeightTransfer``; when the fit starts, if ``order`` names a site that is not there.

    Example:
        >>> transfer = CyclicalWeightTransfer(every_n_epochs=1)
        >>> itinerary = transfer.itinerary(["mgh", "ucsf"])
        >>> [itinerary.site(visit) for visit in range(3)]
        ['mgh', 'ucsf', 'mgh']
    """

    def __init__(self, *args: Any, order: Order | list[str] = "fixed", **kwargs: Any) -> None:
        check_arguments(CyclicalWeightTransfer, kwargs)
        super().__init__(*args, **kwargs)
        self.order = order

    @override
    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """The sites in the given order, round and round."""
        return ordered(sites, self.order, run_seed(self.seed))
