"""What the audit of a ledger notices, and that a damaged one is never taken for whole."""

import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, count, product
from pathlib import Path
from typing import Any

import pytest

from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.provenance.audit import audit
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import Ledger, iter_entries, read_entries
from lit_dist.provenance.line import FIRST, LONGEST
from lit_dist.utils.errors import InputError
from small import fit

SITES = ("mgh", "ucsf")


def visit(number: int, run: str = "x", **values: Any) -> Entry:
    """One of a run's visits, each of which begins with the weights of the last."""
    entry = Entry(
        run=run,
        visit=number,
        cycle=number // 2,
        site=SITES[number % 2],
        outcome="trained",
        images=28,
        steps=4,
        learning_rates_start=[0.001],
        learning_rates_end=[0.001],
        sha256_in=f"{run}{number}",
        sha256_out=f"{run}{number + 1}",
        bytes=100,
        seconds=1.5,
        settings="5" * 64,
        versions={"torch": "2.14.1"},
        metrics={"train_loss": 0.5},
    )
    return replace(entry, **values)


def chained(*entries: Entry, head: str = FIRST) -> list[Entry]:
    """Entries with the hashes that they have in one ledger."""
    chain: list[Entry] = []
    for entry in entries:
        chain.append(replace(entry, previous=chain[-1].sha256 if chain else head))
    return chain


LEDGER = chained(visit(0), visit(1), visit(2), visit(0, "y"), visit(1, "y"), visit(2, "y"))
HEAD = LEDGER[-1].sha256


def read(path: Path, lines: Sequence[str]) -> list[Entry]:
    path.write_text("".join(line + "\n" for line in lines))
    return read_entries(path)


# -- what is whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [None, *LEDGER])
def test_a_whole_ledger_passes_with_each_of_its_lines_as_the_head(entry: Entry | None) -> None:
    audit(LEDGER, entry.sha256 if entry else None)


def test_an_empty_ledger_passes_unless_a_line_must_be_there() -> None:
    audit([])
    audit([], FIRST)
    with pytest.raises(InputError, match="lines are missing after line 0"):
        audit([], HEAD)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([visit(0, outcome="cut short"), visit(2, sha256_in="x1")], id="cut short, and a gap"),
        pytest.param([visit(0, outcome="diverged", sha256_out="x0"), visit(1, sha256_in="x0")], id="after the end"),
        pytest.param([visit(0, outcome="skipped", sha256_out="x0")] * 2, id="skipped twice"),
        pytest.param([visit(0), visit(0, sha256_in="x1")], id="trained twice"),
        pytest.param([visit(0, outcome="absent", sha256_out="x0"), visit(2, sha256_in="x0")], id="absent, and a gap"),
        pytest.param([visit(0), visit(2, sha256_in="x1")], id="a visit too late"),
    ],
)
def test_a_wrong_number_of_a_visit_is_named(entries: list[Entry]) -> None:
    with pytest.raises(InputError, match=r"line 2 \(visit \d at '\w+'\): visit \d should stand here"):
        audit(chained(*entries))


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([visit(0, outcome="cut short"), visit(0, sha256_in="x1", sha256_out="x2")], id="resumed"),
        pytest.param([visit(0, outcome="cut short"), visit(1)], id="ended by max_steps, and made longer"),
        pytest.param([visit(0, outcome="cut short"), visit(0), visit(1)], id="repeated from its beginning"),
        pytest.param([visit(0, outcome="diverged", sha256_out="x0"), visit(0), visit(1)], id="diverged, then trained"),
        pytest.param([visit(0, outcome="skipped", sha256_out="x0"), visit(1, sha256_in="x0")], id="skipped"),
        pytest.param([visit(0, outcome="absent", sha256_out="x0"), visit(1, sha256_in="x0")], id="absent"),
        pytest.param([visit(0, outcome="absent", sha256_out="x0"), visit(0), visit(1)], id="absent, then trained"),
        pytest.param([visit(0), visit(0, "y"), visit(0, "z")], id="three runs"),
    ],
)
def test_what_a_run_may_do_passes(entries: list[Entry]) -> None:
    audit(chained(*entries))


def test_a_visit_cut_short_twice_may_be_repeated_from_its_beginning() -> None:
    begun, gone_on = visit(0, outcome="cut short"), visit(0, outcome="cut short", sha256_in="x1", sha256_out="x2")
    audit(chained(begun, gone_on, visit(0, sha256_out="x2"), visit(1, sha256_in="x2")))


# -- what was tampered with --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 7))
def test_a_changed_line_is_named_though_its_own_hash_is_right(number: int) -> None:
    entries = list(LEDGER)
    entries[number - 1] = replace(entries[number - 1], images=27)
    if number == 6:
        with pytest.raises(InputError, match="lines are missing after line 6: a checkpoint was written after one"):
            audit(entries, HEAD)
    else:
        told = rf"line {number + 1} \(visit \d at '\w+'\): the line before it is missing, or another stands"
        with pytest.raises(InputError, match=told):
            audit(entries)


@pytest.mark.parametrize("number", range(1, 7))
def test_a_changed_line_is_named_by_its_own_hash(number: int, tmp_path: Path) -> None:
    lines = [entry.line for entry in LEDGER]
    lines[number - 1] = lines[number - 1].replace('"images": 28', '"images": 27')
    with pytest.raises(InputError, match=rf"ledger\.jsonl, line {number}: it was changed: its hash is another"):
        read(tmp_path / "ledger.jsonl", lines)


@pytest.mark.parametrize("number", range(2, 6))
@pytest.mark.parametrize("missing", [1, 2])
def test_lines_missing_in_the_middle_are_named(number: int, missing: int) -> None:
    entries = [*LEDGER[: number - 1], *LEDGER[number - 1 + missing :]]
    if len(entries) < number:  # the last ones
        with pytest.raises(InputError, match=f"lines are missing after line {number - 1}"):
            audit(entries, HEAD)
    else:
        with pytest.raises(InputError, match=rf"^line {number} \(.*\): the line before it is missing"):
            audit(entries)


@pytest.mark.parametrize("missing", range(1, 6))
def test_lines_missing_at_the_beginning_are_named(missing: int) -> None:
    with pytest.raises(InputError, match=r"^line 1 \(.*\): the ledger does not begin here; the lines before it are"):
        audit(LEDGER[missing:])


@pytest.mark.parametrize("missing", range(1, 7))
def test_lines_missing_at_the_end_are_noticed_by_the_head(missing: int) -> None:
    audit(LEDGER[:-missing])
    with pytest.raises(InputError, match=f"^lines are missing after line {6 - missing}: a checkpoint was written"):
        audit(LEDGER[:-missing], HEAD)


@pytest.mark.parametrize(("first", "second"), [*combinations(range(1, 7), 2)])
def test_swapped_lines_are_named(first: int, second: int) -> None:
    entries = list(LEDGER)
    entries[first - 1], entries[second - 1] = entries[second - 1], entries[first - 1]
    with pytest.raises(InputError, match=rf"^line {first} \(.*\): it was moved, .* it belongs after line \d"):
        audit(entries)


@pytest.mark.parametrize(("number", "place"), [*product(range(1, 7), range(1, 8))])
def test_a_doubled_line_is_named(number: int, place: int) -> None:
    entries = [*LEDGER[: place - 1], LEDGER[number - 1], *LEDGER[place - 1 :]]
    if place < number:
        named, told = place, f"it was moved, or lines were put in or doubled: it belongs after line {number}"
    else:  # of two equal lines one after the other, it is the second
        named, told = max(place, number + 1), f"it is there twice, first as line {number}"
    with pytest.raises(InputError, match=rf"^line {named} \(.*\): {told}"):
        audit(entries)


@pytest.mark.parametrize("place", range(1, 8))
@pytest.mark.parametrize("number", range(1, 3))
def test_a_line_of_another_ledger_is_named(place: int, number: int) -> None:
    other = chained(visit(0, "z"), visit(1, "z"))
    entries = [*LEDGER[: place - 1], other[number - 1], *LEDGER[place - 1 :]]
    # The first line of any ledger may stand first; then it is the one after it that does not belong there.
    named = place + 1 if (place, number) == (1, 1) else place
    with pytest.raises(InputError, match=rf"^line {named} \("):
        audit(entries)


@pytest.mark.parametrize("following", [visit(0, sha256_in="f"), visit(1, sha256_in="f")], ids=["it", "the next"])
def test_after_a_visit_that_was_left_out_other_weights_are_named_too(following: Entry) -> None:
    with pytest.raises(InputError, match=r"^line 2 \(visit \d at '\w+'\): it began with the weights f, but visit 0"):
        audit(chained(visit(0, outcome="absent", sha256_out="x0"), following))


@pytest.mark.parametrize("number", [2, 3, 5, 6])
@pytest.mark.parametrize("place", ["sha256_in", "sha256_out"])
def test_a_hand_off_with_other_weights_is_named_though_all_hashes_are_right(number: int, place: str) -> None:
    entries = list(LEDGER)
    index = number - 1 if place == "sha256_in" else number - 2
    change: dict[str, Any] = {place: "f" * 64}
    entries[index] = replace(entries[index], **change)
    told = rf"^line {number} \(visit (\d) at '(\w+)'\): it began with the weights \w+, but visit \d at '\w+' had ended"
    with pytest.raises(InputError, match=told):
        audit(chained(*entries))


def test_a_run_that_does_not_begin_with_its_first_visit_is_named() -> None:
    for entries in ([visit(1), visit(2)], [visit(0), visit(3, "y")]):
        place = rf"line {len(entries) if entries[0].visit == 0 else 1} "
        with pytest.raises(InputError, match=rf"^{place}\(.*\): the run does not begin with visit 0"):
            audit(chained(*entries))


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (2, {"cycle": 1}, "cycle 1 is not that of visit 2"),
        (3, {"cycle": 0}, "cycle 2 is not that of visit 4"),
        (5, {"cycle": 1}, "cycle 1 is not that of visit 4"),
        (6, {"cycle": 1}, "cycle 1 does not follow cycle 2"),
        (6, {"cycle": 3}, "cycle 3 is not that of visit 5"),
        (1, {"cycle": 7}, "cycle 7 is not that of visit 0"),
        (4, {"outcome": "diverged"}, "it was diverged, and handed on other weights"),
        (4, {"outcome": "absent", "steps": 0}, "it was absent, and handed on other weights"),
        (4, {"origin": "a.ckpt"}, "it has the origin 'a.ckpt'"),
    ],
)
def test_a_visit_of_another_place_is_named_though_all_hashes_are_right(
    number: int, change: dict[str, Any], said: str
) -> None:
    entries = [visit(place) for place in range(6)]
    audit(chained(*entries))
    entries[number - 1] = replace(entries[number - 1], **change)
    with pytest.raises(InputError, match=said):
        audit(chained(*entries))


def test_a_visit_that_is_resumed_is_at_its_site_and_a_run_that_has_ended_does_not_come_again() -> None:
    begun = visit(0, outcome="cut short")
    with pytest.raises(InputError, match=r"line 2 .* this visit was at 'mgh' in cycle 0 before"):
        audit(chained(begun, visit(0, site="ucsf", sha256_in="x1", sha256_out="x2")))
    with pytest.raises(InputError, match=r"line 3 .* its run had ended, and another one begun"):
        audit(chained(visit(0), visit(0, "y"), visit(0)))


@pytest.mark.parametrize("name", ["visit", "cycle", "images", "steps", "bytes", "seconds"])
def test_a_line_that_counts_from_below_0_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="below 0"):
        Entry.parse(replace(visit(0), **{name: -1.0 if name == "seconds" else -1}).line)


def test_a_ledger_that_goes_on_in_a_new_file_lacks_its_beginning() -> None:
    with pytest.raises(InputError, match=r"line 1 .* the ledger does not begin here"):
        audit(chained(visit(3), head=LEDGER[2].sha256))


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("_traced")
def test_a_long_ledger_takes_less_memory_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    metrics = {f"metric_{number}": 0.1 * number for number in range(20)}
    last, lines = FIRST, []
    for number in range(2000):
        entry = replace(visit(number), sha256_in="a", sha256_out="a", metrics=metrics, previous=last)
        last = entry.sha256
        lines.append(entry.line)
    path.write_text("\n".join([*lines, ""]))
    del lines
    reads: list[Callable[[], object]] = [lambda: audit(iter_entries(path), last), lambda: Ledger(path, last)]
    for read_it in reads:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        read_it()
        assert tracemalloc.get_traced_memory()[1] - before < path.stat().st_size / 2


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"[" * (LONGEST + 1) + b"\n")
    with pytest.raises(InputError, match=r"ledger\.jsonl, line 1: it is longer than"):
        read_entries(path)


# -- random damage -----------------------------------------------------------------------------------------------------


def damaged(content: bytes, chance: random.Random, lines: list[bytes]) -> bytes:
    """A ledger with one bit, byte, part or line changed, put in, moved, or taken out."""
    here = content.splitlines(keepends=True)
    first, second = chance.randrange(len(here)), chance.randrange(len(here))
    swapped = list(here)
    swapped[first], swapped[second] = here[second], here[first]
    start, end = sorted(chance.randrange(len(content)) for _ in range(2))
    place = chance.choice([start, chance.choice([n for n, byte in enumerate(content) if byte in b",:}\n"] or [0])])
    more = chance.choice([b"\n", b" ", b"\r", b"\t", b"0", b"NaN", b"[" * 5000, "😀".encode(), chance.randbytes(20)])
    bit, byte = content[start] ^ 1 << chance.randrange(8), chance.choice(b'0123456789abcdef{}[]",: \n\r\0\xff')
    return chance.choice(
        [
            content[:start] + bytes([chance.choice([bit, byte])]) + content[start + 1 :],
            content[:start] + content[start + chance.choice((1, 2, 10, 1000)) :],
            content[:start],
            content[:start] + content[start:end][::-1] + content[end:],
            content[:place] + more + content[place:],
            content[:place] + content[start:end] + content[place:],
            b"".join(swapped),
            b"".join([*here[:first], *here[first + chance.randrange(1, 4) :]]),
            b"".join([*here[:first], chance.choice(lines), *here[first:]]),
        ]
    )


CONSTANT = 64 * 1024


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str, list[bytes]]:
    """The ledger of two runs, its head, and lines to put into it, some of which are another ledger's."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PL_GLOBAL_SEED", "0")
        for name in ("other", "here", "here"):
            fit(CyclicalWeightTransfer(every_n_epochs=1), default_root_dir=folder / name, max_epochs=3)
    path = folder / "here" / "ledger.jsonl"
    lines = path.read_bytes() + (folder / "other" / "ledger.jsonl").read_bytes()
    return path.read_bytes(), read_entries(path)[-1].sha256, lines.splitlines(keepends=True)


def refusal(path: Path, head: str) -> str | None:
    try:
        audit(iter_entries(path), head)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.slow
@pytest.mark.usefixtures("_traced")
def test_random_damage_is_always_refused(real: tuple[bytes, str, list[bytes]], tmp_path: Path) -> None:
    whole, head, lines = real
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(whole)
    assert refusal(path, head) is None
    done = 0
    for seed in count():
        chance, content = random.Random(seed), whole
        for _ in range(chance.randrange(1, 4)):
            content = damaged(content, chance, lines) if content else content
        if content == whole:
            continue
        path.write_bytes(content)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert refusal(path, head), f"seed {seed}"
        peak = tracemalloc.get_traced_memory()[1] - before
        assert peak < 2 * len(content) + CONSTANT, f"seed {seed}"
        done += 1
        if done == 1000:
            break
