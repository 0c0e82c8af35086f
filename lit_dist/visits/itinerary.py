"""Where the model goes: visits, and the schedules that say which site is next.

Everything here is a pure function of the visit's number, so a run that is resumed, or that another process
continues, needs no memory of what came before. Nothing here knows of Lightning.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lit_dist.utils.errors import InputError
from lit_dist.visits.seeding import derive

Order = Literal["fixed", "shuffled", "no_repeat"]


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay of the model at one site.

    Attributes:
        number: The visit's number in the run, from 0.
        cycle: The round over all sites that it belongs to, from 0.
        site: The site's name.
    """

    number: int
    cycle: int
    site: str


class Itinerary(ABC):
    """The sequence of visits of a run. A new heuristic implements ``site``.

    Args:
        sites: The names of the sites that are visited, each once.

    Example:
        >>> class ThereAndBack(Itinerary):
        ...     def site(self, visit):
        ...         lap = [*self.sites, *reversed(self.sites)]
        ...         return lap[visit % len(lap)]
        >>> [ThereAndBack(["a", "b", "c"]).site(visit) for visit in range(6)]
        ['a', 'b', 'c', 'c', 'b', 'a']
    """

    def __init__(self, sites: Sequence[str]) -> None:
        self.sites = tuple(sites)
        twice = sorted({site for site in self.sites if self.sites.count(site) > 1})
        if twice:
            raise InputError(f"site {twice[0]!r} stands twice in the order; name each site once")

    @abstractmethod
    def site(self, visit: int) -> str:
        """The site of a visit, as a pure function of the visit's number."""

    def visit(self, number: int) -> Visit:
        """The visit of a number."""
        return Visit(number, number // self.visits_a_cycle, self.site(number))

    @property
    def visits_a_cycle(self) -> int:
        """The number of visits of a cycle: one at each site, unless an itinerary says otherwise."""
        return len(self.sites)

    def from_merge(self, visit: int) -> bool:
        """Whether a visit begins with the last merge, and not with the weights of the visit before.

        Before the first merge, it is what the first visit of the round began with.
        """
        return False

    def merges_after(self, visit: int) -> bool:
        """Whether the weights of the visits since the last merge are merged after a visit."""
        return False

    def advances(self, visit: int) -> bool:
        """Whether schedules continue from a visit, as they do not from those whose weights are only merged."""
        return True

    @property
    def merges(self) -> bool:
        """Whether there is any merge."""
        return type(self).merges_after is not Itinerary.merges_after


class FixedOrder(Itinerary):
    """The sites one after another, in the same order in every cycle."""

    def site(self, visit: int) -> str:
        """The site of a visit."""
        return self.sites[visit % len(self.sites)]


class Rounds(FixedOrder):
    """Every site once a round, in rings that begin with the last merge; a merge ends the round.

    Args:
        sites: The names of the sites that are visited.
        ring: How many sites one ring has, among which the weights go from one to the next. With all in one there is
            nothing to merge.
        cycles_first: How many cycles come first in which the weights go from site to site, without a merge.
        rounds: How many rounds there are, after which the weights go from site to site again; None for no end of them.

    Example:
        >>> rounds = Rounds(["a", "b"])
        >>> [(rounds.site(visit), rounds.from_merge(visit), rounds.merges_after(visit)) for visit in range(3)]
        [('a', True, False), ('b', True, True), ('a', True, False)]
    """

    def __init__(self, sites: Sequence[str], ring: int = 1, cycles_first: int = 0, rounds: int | None = None) -> None:
        super().__init__(sites)
        self.ring = ring
        self.cycles_first = cycles_first
        self.rounds = rounds

    def from_merge(self, visit: int) -> bool:
        """Whether a visit is the first of its ring."""
        cycle, place = divmod(visit, len(self.sites))
        return self._merges(cycle) and place % self.ring == 0

    def merges_after(self, visit: int) -> bool:
        """Whether a visit is the last of its round."""
        cycle, place = divmod(visit, len(self.sites))
        return self._merges(cycle) and place == len(self.sites) - 1

    def advances(self, visit: int) -> bool:
        """Whether a visit is in the last ring of its round."""
        cycle, place = divmod(visit, len(self.sites))
        return not self._merges(cycle) or place // self.ring == (len(self.sites) - 1) // self.ring

    def _merges(self, cycle: int) -> bool:
        number = cycle - self.cycles_first
        return self.merges and number >= 0 and (self.rounds is None or number < self.rounds)

    @property
    def merges(self) -> bool:
        """Whether there is more than one ring."""
        return self.ring < len(self.sites)


class DaisyChains(Itinerary):
    """As many models as sites, each of which goes to another site with each visit; a merge ends their round.

    A model's visits come one after another, those of the next model after them; a cycle is a round. The first visits
    of the models are at the sites in their order, and the others at sites that are drawn anew, such that each is
    visited by one model at a time.

    Args:
        sites: The names of the sites that are visited.
        links: The number of visits of each model in a round.
        seed: The run's seed.

    Example:
        >>> chains = DaisyChains(["a", "b", "c"], links=2)
        >>> [chains.site(visit) for visit in range(0, 6, 2)], sorted(chains.site(visit) for visit in range(1, 6, 2))
        (['a', 'b', 'c'], ['a', 'b', 'c'])
    """

    def __init__(self, sites: Sequence[str], links: int, seed: int = 0) -> None:
        super().__init__(sites)
        self.links = links
        self.seed = seed
        self._round: tuple[int, list[list[str]]] = (-1, [])  # the sites of each link, in the order of the models

    @property
    def visits_a_cycle(self) -> int:
        """The number of visits of a round."""
        return len(self.sites) * self.links

    def site(self, visit: int) -> str:
        """The site of a visit."""
        number, place = divmod(visit, self.visits_a_cycle)
        if self._round[0] != number:
            self._round = number, [self._order(number, link) for link in range(self.links)]
        model, link = divmod(place, self.links)
        return self._round[1][link][model]

    def _order(self, number: int, link: int) -> list[str]:
        order = list(self.sites)
        if link:
            random.Random(derive(self.seed, "daisy chain", number, link)).shuffle(order)
        return order

    def from_merge(self, visit: int) -> bool:
        """Whether a visit is the first of its model in the round."""
        return visit % self.links == 0

    def merges_after(self, visit: int) -> bool:
        """Whether a visit is the last of its round."""
        return (visit + 1) % self.visits_a_cycle == 0

    def advances(self, visit: int) -> bool:
        """Whether a visit is one of the last model's."""
        return visit % self.visits_a_cycle >= self.visits_a_cycle - self.links


class ShuffledOrder(Itinerary):
    """Every site once a cycle, in an order drawn anew for each cycle.

    Args:
        sites: The names of the sites that are visited.
        seed: The run's seed.
        repeat: Whether the last site of a cycle may be the first of the next.
    """

    def __init__(self, sites: Sequence[str], seed: int = 0, repeat: bool = True) -> None:
        super().__init__(sites)
        self.seed = seed
        self.repeat = repeat
        self._cycle: tuple[int, list[str]] = (-1, [])

    def site(self, visit: int) -> str:
        """The site of a visit."""
        cycle, place = divmod(visit, len(self.sites))
        if self._cycle[0] != cycle:  # one shuffle a cycle, not one a visit
            self._cycle = (cycle, self._order(cycle))
        return self._cycle[1][place]

    def _order(self, cycle: int) -> list[str]:
        if not self.repeat and len(self.sites) == 2:
            cycle = 0  # two sites that may not repeat can only alternate
        order = self._shuffled(cycle)
        # Changing the first two places leaves the last one, so the next cycle needs only this one's plain shuffle.
        if not self.repeat and len(order) > 2 and cycle and order[0] == self._shuffled(cycle - 1)[-1]:
            order[0], order[1] = order[1], order[0]
        return order

    def _shuffled(self, cycle: int) -> list[str]:
        order = list(self.sites)
        random.Random(derive(self.seed, "order", cycle)).shuffle(order)
        return order


def ordered(sites: Sequence[str], order: Order | Sequence[str], seed: int = 0) -> Itinerary:
    """The itinerary of an ``order`` setting.

    Args:
        sites: The names of all sites.
        order: ``"fixed"`` (as the sites are given), ``"shuffled"`` (anew each cycle), ``"no_repeat"`` (shuffled, but
            never the same site twice running), or a list of the names to visit.
        seed: The run's seed.

    Raises:
        InputError: If the order names a site that does not exist, or one twice, or is not an order.

    Example:
        >>> [ordered(["a", "b"], ["b", "a"]).site(visit) for visit in range(3)]
        ['b', 'a', 'b']
    """
    if order == "fixed":
        return FixedOrder(sites)
    if order in ("shuffled", "no_repeat"):
        return ShuffledOrder(sites, seed, repeat=order == "shuffled")
    if isinstance(order, str):
        raise InputError(f"order={order!r} is not 'fixed', 'shuffled', 'no_repeat' or a list of sites")
    unknown = [site for site in order if site not in sites]
    if unknown:
        raise InputError(f"the order names the site {unknown[0]!r}, which is not one of {', '.join(sites)}")
    if not order:
        raise InputError("the order is an empty list; name the sites to visit")
    return FixedOrder(order)
