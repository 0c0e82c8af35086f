"""The audit of a ledger: that no line was changed, left out, moved or doubled, and that every hand-off is whole."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from lit_dist.provenance.entry import Entry
from lit_dist.provenance.line import FIRST
from lit_dist.utils.errors import InputError


class AuditError(InputError):
    """A ledger's lines do not fit together; the message names the line, not the file."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a ledger holds that was found to be in order.

    Attributes:
        visits: The number of lines.
        runs: The number of runs.
        left_out: The visits that were left out, as text.
        head: The entry that had to be there, if there is one.
    """

    visits: int
    runs: int
    left_out: list[str]
    head: Entry | None


def audit(entries: Iterable[Entry], head: str | None = None) -> Audit:
    """Check the entries of a ledger against each other, one after the other.

    Args:
        entries: The entries, as ``iter_entries`` gives them: each was checked by itself.
        head: The hash of a line that must be there, from a checkpoint: without it nobody could tell that lines were cut
            off the end.

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
    at_head = None
    left_out: list[str] = []
    for number, entry in zip(count(1), stream, strict=False):
        sha256 = entry.sha256
        if entry.previous != last:
            here = [*hashes, bytes.fromhex(sha256), *(bytes.fromhex(later.sha256) for later in stream)]
            raise AuditError(f"line {number} ({_name(entry)}): {_what_happened(entry, number, here)}")
        hand_offs.check(number, entry)
        last = sha256
        hashes.append(bytes.fromhex(sha256))
        runs.add(entry.run)
        if entry.outcome in ("skipped", "absent"):
            left_out.append(f"{_name(entry)} ({entry.outcome})")
        at_head = entry if sha256 == head else at_head
    if head not in (None, FIRST) and at_head is None:
        raise AuditError(
            f"lines are missing after line {len(hashes)}: a checkpoint was written after one that is not there"
        )
    return Audit(len(hashes), len(runs), left_out, at_head)


def _what_happened(entry: Entry, number: int, hashes: list[bytes]) -> str:
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
        self._came_in = ""  # with which the visit of the last line began

    def check(self, number: int, entry: Entry) -> None:
        last, self._last = self._last, entry
        place = f"line {number} ({_name(entry)})"
        if last is None or last.run != entry.run:
            if entry.visit != 0 and not entry.origin:
                raise AuditError(f"{place}: the run does not begin with visit 0; the visits before are missing")
            self._came_in = entry.sha256_in
            return
        expected = last.visit if last.outcome in ("cut short", "diverged") else last.visit + 1
        # The server may have gone back to where the site was asked, and found it there.
        back = last.outcome == "absent" and entry.visit == last.visit
        if entry.visit != expected and not back:
            raise AuditError(f"{place}: visit {expected} should stand here")
        # A visit that was cut short is resumed, or begun again.
        again = (last.outcome == "cut short" or back) and entry.sha256_in == self._came_in
        if entry.sha256_in != last.sha256_out and not again:
            raise AuditError(
                f"{place}: it began with the weights {entry.sha256_in[:12]}, but {_name(last)} had ended with"
                f" {last.sha256_out[:12]}"
            )
        if entry.visit != last.visit:
            self._came_in = entry.sha256_in


def _name(entry: Entry) -> str:
    return f"visit {entry.visit} at {entry.site!r}"
