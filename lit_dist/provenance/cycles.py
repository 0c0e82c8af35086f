"""Cycles: whether the visits of a run follow each other as those of rounds over its sites do."""

from lit_dist.provenance.entry import Entry


class Cycles:
    """Follows the cycles of a run, all of which have as many visits as there are sites."""

    def __init__(self) -> None:
        self._last: Entry | None = None
        self._length = 0  # known from the first cycle that ends
        self._sites: dict[str, int] = {}  # of the cycle, by their visits

    def add(self, entry: Entry, within_round: bool) -> None:
        """Follow a run's next line.

        Args:
            entry: The line.
            within_round: Whether the visit is one of a round that is merged.

        Raises:
            ValueError: If it cannot follow the lines before it.
        """
        last, self._last = self._last, entry
        if last is not None and last.visit == entry.visit:
            if (last.site, last.cycle) != (entry.site, entry.cycle):
                raise ValueError(f"this visit was at {last.site!r} in cycle {last.cycle} before")
            return
        if last is not None and entry.cycle != last.cycle:
            self._begin(entry, last)
        if entry.cycle > entry.visit or (self._length and entry.cycle != entry.visit // self._length):
            raise ValueError(f"cycle {entry.cycle} is not that of visit {entry.visit}")
        if within_round and entry.site in self._sites:
            raise ValueError(f"{entry.site!r} was visited in this round already, in visit {self._sites[entry.site]}")
        self._sites[entry.site] = entry.visit

    def _begin(self, entry: Entry, last: Entry) -> None:
        if entry.cycle != last.cycle + 1:
            raise ValueError(f"cycle {entry.cycle} does not follow cycle {last.cycle}")
        self._sites = {}
        if not self._length:
            self._length, rest = divmod(entry.visit, entry.cycle)
            if rest:
                raise ValueError(f"cycle {entry.cycle} does not begin with visit {entry.visit}")
