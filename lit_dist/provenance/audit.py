"""The audit of a ledger: that no line was changed, left out, moved or doubled, and that every hand-off is whole."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from lit_dist.provenance.cycles import Cycles
from lit_dist.provenance.entry import PASSED, Entry
from lit_dist.provenance.estimation import Estimation
from lit_dist.provenance.ledger import AnyLine
from lit_dist.provenance.line import FIRST
from lit_dist.provenance.merge import Merge
from lit_dist.utils.errors import InputError


class AuditError(InputError):
    """A ledger's lines do not fit together; the message names the line, not the file."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a ledger holds that was found to be in order.

    Attributes:
        visits: The number of lines of visits.
        merges: The number of lines of merges.
        estimations: The number of lines of estimations.
        runs: The number of runs.
        left_out: The visits that were left out, as text.
        changed: The visits that were made with other settings than the one before, as text.
        head: The line that had to be there, if there is one.
        handed_on: The hash of the weights that were handed on after it, and after the lines that waited.
    """

    visits: int
    merges: int
    estimations: int
    runs: int
    left_out: list[str]
    changed: list[str]
    head: AnyLine | None
    handed_on: str


def audit(entries: Iterable[AnyLine], head: str | None = None, waiting: Sequence[AnyLine] = ()) -> Audit:
    """Check the lines of a ledger against each other, one after the other.

    Args:
        entries: The lines, as ``iter_lines`` gives them: each was checked by itself.
        head: The hash of a line that must be there, from a checkpoint: without it nobody could tell that lines were cut
            off the end.
        waiting: The lines that were to be written after it.

    Returns:
        What was seen.

    Raises:
        AuditError: At the first line that is wrong, which it names.
    """
    stream = iter(entries)
    hashes: list[bytes] = []  # of all lines so far; the entries themselves are not kept, since a ledger may be long
    runs: set[str] = set()
    hand_offs = _HandOffs()
    last = FIRST
    at_head, visits, merges = None, 0, 0
    handed_on = hand_offs.after(0, waiting) if head == FIRST else ""
    left_out: list[str] = []
    for number, entry in zip(count(1), stream, strict=False):
        sha256 = entry.sha256
        if entry.previous != last:
            here = [*hashes, bytes.fromhex(sha256), *(bytes.fromhex(later.sha256) for later in stream)]
            raise AuditError(f"line {number} ({entry.name}): {_what_happened(entry, number, here)}")
        if entry.run in runs and entry.run != hand_offs.run:
            raise AuditError(f"line {number} ({entry.name}): its run had ended, and another one begun")
        hand_offs.check(number, entry)
        handed_on = hand_offs.after(number, waiting) if sha256 == head else handed_on
        last = sha256
        hashes.append(bytes.fromhex(sha256))
        runs.add(entry.run)
        visits, merges = visits + isinstance(entry, Entry), merges + isinstance(entry, Merge)
        if isinstance(entry, Entry) and entry.outcome in PASSED:
            left_out.append(f"{entry.name} ({entry.outcome})")
        at_head = entry if sha256 == head else at_head
    if head not in (None, FIRST) and at_head is None:
        raise AuditError(
            f"lines are missing after line {len(hashes)}: a checkpoint was written after one that is not there"
        )
    estimations = len(hashes) - visits - merges
    return Audit(visits, merges, estimations, len(runs), left_out, hand_offs.changed, at_head, handed_on)


def _what_happened(entry: AnyLine, number: int, hashes: list[bytes]) -> str:
    own, previous = bytes.fromhex(entry.sha256), entry.previous
    if own in hashes[: number - 1]:
        return f"it is there twice, first as line {hashes.index(own) + 1}"
    places = [place for place, sha256 in enumerate(hashes, start=1) if sha256.hex() == previous]
    if places:
        return f"it was moved, or lines were put in or doubled: it belongs after line {places[0]}"
    if number == 1:
        return "the ledger does not begin here; the lines before it are missing"
    return "the line before it is missing, or another stands in its place"


class _HandOffs:
    """Whether each visit is the one that should follow, and began with the weights that were handed over."""

    def __init__(self) -> None:
        self._last: Entry | None = None
        self.handed_on = ""  # the weights that the next visit begins with
        self._came_in = ""  # with which the visit of the last line began
        self._round = _Round()
        self._merged: _Round | None = None  # the round that ended with the line before
        self._cycles = Cycles()
        self._merge_settings: dict[str, tuple[str, str]] = {}  # of merges, by those of the visit before
        self.changed: list[str] = []  # the visits that were made with other settings than the one before
        self._estimated: Estimation | None = None  # what the run's first visit begins with

    @property
    def run(self) -> str:
        """The run of the line before; empty before the first."""
        if self._estimated is not None:
            return self._estimated.run
        return self._last.run if self._last is not None else ""

    def check(self, number: int, line: AnyLine) -> None:
        place = f"line {number} ({line.name})"
        if isinstance(line, Merge):
            self._check_merge(place, line)
            return
        if isinstance(line, Estimation):
            self._check_estimation(place, line)
            return
        self._check_visit(place, line)
        self._check_place(place, line)
        self._estimated = None
        last, self._last = self._last, line
        if last is None or line.visit != last.visit or line.run != last.run:
            self._came_in = line.sha256_in
        elif line.sha256_in != last.sha256_out:
            self._round.forget(line.visit)  # it was begun again
        self.handed_on = self._round.add(line)
        self._merged = None

    def after(self, number: int, waiting: Sequence[AnyLine]) -> str:
        """The weights that are handed on after some more lines."""
        later = copy.deepcopy(self)
        for place, line in enumerate(waiting, start=number + 1):
            later.check(place, line)
        return later.handed_on

    def _check_estimation(self, place: str, line: Estimation) -> None:
        if self._last is not None and self._last.run == line.run:
            raise AuditError(f"{place}: it belongs before the visits of its run")
        self._estimated, self.handed_on = line, line.sha256_out

    def _check_visit(self, place: str, entry: Entry) -> None:
        last, estimated = self._last, self._estimated
        if estimated and estimated.run == entry.run and estimated.sha256_out != entry.sha256_in:
            raise AuditError(
                f"{place}: it began with the weights {entry.sha256_in[:12]}, but {estimated.name} had left"
                f" {estimated.sha256_out[:12]}"
            )
        if last is None or last.run != entry.run:
            if entry.visit != 0 and not entry.origin:
                raise AuditError(f"{place}: the run does not begin with visit 0; the visits before are missing")
            self._round = _Round(complete=entry.visit == 0)
            return
        expected = last.visit if last.outcome in ("cut short", "diverged") else last.visit + 1
        # In the middle of an epoch, one that was cut short is not resumed.
        following = last.outcome == "cut short" and entry.visit == last.visit + 1
        # The server may have gone back to where the site was asked, and found it there.
        back = last.outcome == "absent" and entry.visit == last.visit
        if entry.visit != expected and not back and not following:
            raise AuditError(f"{place}: visit {expected} should stand here")
        if back and self._merged is not None:
            self._round = self._merged
        # A visit that was cut short is resumed, or begun again.
        again = (last.outcome == "cut short" or back) and entry.sha256_in == self._came_in
        resumed = last.outcome == "cut short" and entry.sha256_in == last.sha256_out
        if entry.sha256_in != self._begins_with(entry, last) and not again and not resumed:
            raise AuditError(
                f"{place}: it began with the weights {entry.sha256_in[:12]}, but {self._before(last)} had ended with"
                f" {self.handed_on[:12]}"
            )

    def _check_place(self, place: str, entry: Entry) -> None:
        """Whether a visit is of the cycle, site, origin and outcome that it can be of."""
        last = self._last if self._last is not None and self._last.run == entry.run else None
        if last is not None and entry.origin != last.origin:
            raise AuditError(f"{place}: it has the origin {entry.origin!r}, and its run {last.origin!r}")
        if last is not None and entry.settings != last.settings:
            self.changed.append(entry.name)
        if last is None or entry.settings != last.settings:
            self._cycles = Cycles()
        try:
            self._cycles.add(entry)
        except ValueError as error:
            raise AuditError(f"{place}: {error}") from None
        passed = entry.outcome in ("skipped", "diverged") or (entry.outcome == "absent" and not entry.steps)
        if passed and entry.sha256_out != entry.sha256_in:
            raise AuditError(f"{place}: it was {entry.outcome}, and handed on other weights than it began with")

    def _begins_with(self, entry: Entry, last: Entry) -> str:
        return self.handed_on if entry.parent or self._merged is not None else last.sha256_out

    def _before(self, last: Entry) -> str:
        return last.name if self.handed_on == last.sha256_out else "the last merge"

    def _check_merge(self, place: str, merge: Merge) -> None:
        if self._last is None or self._last.run != merge.run or self._merged is not None:
            raise AuditError(f"{place}: there are no visits that it could have merged")
        self._merged, self._round = self._round, _Round()
        if self._merged.complete and self._merged.empty:
            raise AuditError(f"{place}: there are no visits that it could have merged")
        try:
            self._cycles.end_round()
        except ValueError as error:
            raise AuditError(f"{place}: {error}") from None
        parents = self._merged.parents(merge.weighting)
        found = list(zip(merge.visits, merge.parents, merge.weights, strict=True))
        if not self._merged.complete:  # with visits of the run that this one began with
            found = found[-len(parents) or len(found) :]
        if merge.cycle != self._last.cycle or found != parents:
            told = ", ".join(f"visit {visit} ({sha256[:12]}, {weight:g})" for visit, sha256, weight in parents)
            raise AuditError(f"{place}: it should merge {told or 'nothing'}, with what they count")
        if not found and merge.sha256_out != self.handed_on:
            raise AuditError(f"{place}: it merges nothing, and handed on other weights than its round began with")
        settings = merge.settings, merge.weighting
        if self._merge_settings.setdefault(f"{merge.run} {self._last.settings}", settings) != settings:
            raise AuditError(f"{place}: it has other settings than the merges of this run before it")
        self.handed_on = merge.sha256_out


class _Round:
    """The visits since the last merge.

    Args:
        complete: Whether all of them are of this run.
    """

    def __init__(self, complete: bool = True) -> None:
        self.complete = complete
        self._base = ""  # the weights that they began with
        self._visits: list[Entry] = []

    def add(self, entry: Entry) -> str:
        """Add a visit that has ended; the weights that the next one begins with, if it begins with a merge."""
        if entry.parent and not self._base:
            self._base = entry.sha256_in
        if self._base:
            self._visits.append(entry)
        return self._base or entry.sha256_out

    @property
    def empty(self) -> bool:
        """Whether no visit began with a merge."""
        return not self._visits

    def forget(self, visit: int) -> None:
        """Take no account of what was trained in a visit so far."""
        self._visits = [entry for entry in self._visits if entry.visit != visit]

    def parents(self, weighting: str) -> list[tuple[int, str, float]]:
        """What a merge of them has to name: the visits, their weights, and what each counts."""
        found: list[tuple[int, str, float]] = []
        images = 0
        for place, entry in enumerate(self._visits):
            images += entry.images if entry.outcome in ("trained", "cut short") else 0
            following = self._visits[place + 1] if place + 1 < len(self._visits) else None
            goes_on = following is not None and (following.visit == entry.visit or not following.parent)
            if not goes_on:
                if images:
                    found.append((entry.visit, entry.sha256_out, float(images) if weighting == "images" else 1.0))
                images = 0
        return found
