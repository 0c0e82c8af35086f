"""The audit of a ledger: that no line was changed, left out, moved or doubled, and that every hand-off is whole."""

from collections.abc import Sequence

from lit_dist.errors import InputError
from lit_dist.ledger import FIRST, Entry


def audit(entries: Sequence[Entry], head: str | None = None) -> None:
    """Check the entries of a ledger against each other.

    Args:
        entries: The entries, as ``read_entries`` gives them: each was checked by itself.
        head: The hash of a line that must be there, from a checkpoint: without it nobody could tell that lines were cut
            off the end.

    Raises:
        InputError: At the first line that is wrong, which it names.
    """
    hashes = [entry.sha256 for entry in entries]
    before = [FIRST, *hashes]
    for number, (previous, entry) in enumerate(zip(before, entries, strict=False), start=1):
        if entry.previous != previous:
            raise InputError(f"line {number} ({_name(entry)}): {_what_happened(entry, number, hashes)}")
    _check_hand_offs(entries)
    if head is not None and head not in before:
        raise InputError(
            f"lines are missing after line {len(entries)}: a checkpoint was written after one that is not there"
        )


def _what_happened(entry: Entry, number: int, hashes: list[str]) -> str:
    if entry.sha256 in hashes[: number - 1]:
        return f"it is there twice, first as line {hashes.index(entry.sha256) + 1}"
    if entry.previous in hashes:
        return (
            f"it was moved, or lines were put in or doubled: it belongs after line {hashes.index(entry.previous) + 1}"
        )
    if number == 1:
        return "the ledger does not begin here; the lines before it are missing"
    return "the line before it is missing, or another stands in its place"


def _check_hand_offs(entries: Sequence[Entry]) -> None:
    came_in = ""  # with which the visit of the last line began
    for number, (last, entry) in enumerate(zip([None, *entries], entries, strict=False), start=1):
        place = f"line {number} ({_name(entry)})"
        if last is None or last.run != entry.run:
            if entry.visit != 0:
                raise InputError(f"{place}: the run does not begin with visit 0; the visits before are missing")
            came_in = entry.sha256_in
            continue
        expected = last.visit if last.outcome in ("cut short", "diverged") else last.visit + 1
        if entry.visit != expected:
            raise InputError(f"{place}: visit {expected} should stand here")
        # A visit that was cut short is gone on with, or begun again.
        again = last.outcome == "cut short" and entry.sha256_in == came_in
        if entry.sha256_in != last.sha256_out and not again:
            raise InputError(
                f"{place}: it began with the weights {entry.sha256_in[:12]}, but {_name(last)} had ended with"
                f" {last.sha256_out[:12]}"
            )
        if entry.visit != last.visit:
            came_in = entry.sha256_in


def _name(entry: Entry) -> str:
    return f"visit {entry.visit} at {entry.site!r}"
