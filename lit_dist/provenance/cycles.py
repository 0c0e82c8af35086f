"""Cycles: whether the visits of a run follow each other as those of rounds over its sites do."""

from collections import Counter

from lit_dist.provenance.entry import Entry


class Cycles:
    """Follows the cycles of a run, all of which have as many visits, and each site as often as any other."""

    def __init__(self) -> None:
        self._last: Entry | None = None
        self._length = 0  # known from the first cycle that ends
        self._whole = False  # whether the cycle was followed from its first visit
        self._begun: dict[str, int] = {}  # the visits of the cycle that began with a merge, by their sites
        self._visits: Counter[str] = Counter()  # of the cycle, by their sites

    def add(self, entry: Entry) -> None:
        """Follow a run's next line.

        Args:
            entry: The line.

        Raises:
            ValueError: If it cannot follow the lines before it.
        """
        last, self._last = self._last, entry
        if last is not None and last.visit == entry.visit:
            if (last.site, last.cycle) != (entry.site, entry.cycle):
                raise ValueError(f"this visit was at {last.site!r} in cycle {last.cycle} before")
            return
        self._whole = self._whole or entry.visit == 0
        if last is not None and entry.cycle != last.cycle:
            self._begin(entry, last)
        if entry.cycle > entry.visit or (self._length and entry.cycle != entry.visit // self._length):
            raise ValueError(f"cycle {entry.cycle} is not that of visit {entry.visit}")
        if entry.parent and entry.site in self._begun:
            raise ValueError(f"{entry.site!r} was visited in this round already, in visit {self._begun[entry.site]}")
        if entry.parent:
            self._begun[entry.site] = entry.visit
        self._visits[entry.site] += 1

    def end_round(self) -> None:
        """See that a round that is merged has visited each of its sites as often.

        Raises:
            ValueError: If it has not.
        """
        counted = self._visits.most_common()
        (most, times), (least, fewer) = counted[0], counted[-1]
        if self._whole and times != fewer:
            raise ValueError(f"{most!r} was visited {times} times in this round, and {least!r} {fewer}")

    def _begin(self, entry: Entry, last: Entry) -> None:
        if entry.cycle != last.cycle + 1:
            raise ValueError(f"cycle {entry.cycle} does not follow cycle {last.cycle}")
        self._whole, self._begun, self._visits = True, {}, Counter()
        if not self._length:
            self._length, rest = divmod(entry.visit, entry.cycle)
            if rest:
                raise ValueError(f"cycle {entry.cycle} does not begin with visit {entry.visit}")
