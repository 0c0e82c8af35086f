"""The lines of merges, and an audit of a ledger that has some."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lit_dist.provenance.audit import AuditError, audit
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import Ledger, OtherWeightsError, iter_entries, iter_lines, parse_entry
from lit_dist.provenance.line import FIRST
from lit_dist.provenance.merge import Merge

Lines = list[Entry | Merge]


def visit(number: int, came_in: str, **changes: Any) -> Entry:
    values: dict[str, Any] = {
        "run": "r", "visit": number, "cycle": number // 2, "site": "ab"[number % 2], "outcome": "trained",
        "images": 4 + number, "steps": 2, "learning_rates_start": [0.1], "learning_rates_end": [0.1],
        "sha256_in": came_in, "sha256_out": f"out {number}", "bytes": 4, "seconds": 1.0, "settings": "s",
        "versions": {}, "parent": "merge",
    }  # fmt: skip
    return Entry(**{**values, **changes})


def merge(cycle: int, weights: dict[int, float], **changes: Any) -> Merge:
    parents = [f"out {number}" for number in weights]
    values: dict[str, Any] = {
        "run": "r", "kind": "merge", "cycle": cycle, "visits": list(weights), "parents": parents,
        "weights": list(weights.values()), "weighting": "images", "sha256_out": f"merge {cycle}", "bytes": 4,
        "seconds": 1.0, "settings": "s", "versions": {},
    }  # fmt: skip
    return Merge(**{**values, **changes})


def star() -> Lines:
    first = [visit(0, "start"), visit(1, "start"), merge(0, {0: 4.0, 1: 5.0})]
    return [*first, visit(2, "merge 0"), visit(3, "merge 0"), merge(1, {2: 6.0, 3: 7.0})]


def chained(lines: Lines) -> Lines:
    """As somebody would write them who changes a ledger and all its hashes."""
    found: Lines = []
    for line in lines:
        found.append(replace(line, previous=found[-1].sha256 if found else FIRST))
    return found


def changed(number: int, **changes: Any) -> Callable[[Lines], Lines]:
    return lambda lines: [replace(line, **changes) if place == number else line for place, line in enumerate(lines)]


def test_a_star_is_whole() -> None:
    seen = audit(chained(star()))
    assert (seen.visits, seen.merges, seen.runs) == (4, 2, 1)
    counts: dict[str, Any] = {"weighting": "equal", "weights": [1.0, 1.0]}
    equal = [replace(line, **counts) if isinstance(line, Merge) else line for line in star()]
    assert audit(chained(equal)).merges == 2


def test_a_line_is_read_as_it_was_written() -> None:
    for line in chained(star()):
        assert parse_entry(f"{line.line}\n".encode()) == line
    assert '"parent"' not in visit(0, "", parent="").line


@pytest.mark.parametrize(
    "changes",
    [
        *({"kind": "mean"}, {"weighting": "most"}, {"visits": [1]}, {"weights": [1.0, "5"]}, {"cycle": "0"}),
        *({"bytes": -1}, {"seconds": -0.1}, {"weights": [-4.0, 5.0]}, {"visits": [-1, 1]}, {"cycle": -1}),
    ],
)
def test_a_merge_that_no_run_writes_is_none(changes: dict[str, Any]) -> None:
    line = replace(merge(0, {0: 4.0, 1: 5.0}), **changes)
    with pytest.raises(ValueError, match=r"it is not a merge|are not as many|wrong type|below 0"):
        Merge.parse(line.line)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (changed(2, visits=[1, 0], parents=["out 1", "out 0"], weights=[5.0, 4.0]), "line 3 .* should merge visit 0"),
        (changed(2, parents=["out 1", "out 0"]), "line 3 .* should merge visit 0"),
        (changed(2, weights=[5.0, 4.0]), "line 3 .* should merge visit 0"),
        (changed(2, weighting="equal"), "line 3 .* should merge visit 0"),
        (changed(2, visits=[1], parents=["out 1"], weights=[5.0]), "line 3 .* should merge visit 0"),
        (changed(2, cycle=1), "line 3 "),
        (changed(5, settings="t"), "line 6 .* other settings than the merges of this run before"),
        (changed(2, settings="t"), "line 6 .* other settings than the merges of this run before"),
        (changed(4, site="a"), "line 5 .* 'a' was visited in this round already, in visit 2"),
        (changed(1, site="a"), "line 2 .* 'a' was visited in this round already, in visit 0"),
        (changed(4, cycle=0), "line 5 .* cycle 0 does not follow cycle 1"),
        (changed(3, cycle=2), "line 4 .* cycle 2 does not follow cycle 0"),
        (changed(4, origin="other.ckpt"), "line 5 .* has the origin 'other.ckpt'"),
        (changed(1, outcome="skipped"), "line 2 .* was skipped, and handed on other weights"),
        (changed(2, run="q"), "line 3 .* no visits that it could have merged"),
        (lambda lines: _chain_with_a_merge_of_nothing(), "line 3 .* no visits that it could have merged"),
        (changed(2, sha256_out="else"), "line 4 .* began with the weights merge 0"),
        (changed(0, images=3), "line 3 .* should merge visit 0"),
        (changed(1, sha256_in="out 0", parent=""), "line 3 .* should merge visit 1"),
        (changed(1, sha256_in="out 0"), "line 2 .* began with the weights out 0"),
        (changed(3, parent="", sha256_in="out 1"), "line 4 .* began with the weights out 1"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3 .* began with the weights merge 0"),
        (lambda lines: [*lines[:3], *lines[2:]], "line 4 .* no visits that it could have merged"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2 .* should merge visit 0"),
        (lambda lines: [lines[2], *lines[:2], *lines[3:]], "line 1 .* no visits"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 .* does not begin with visit 0"),
    ],
)  # fmt: skip
def test_a_ledger_that_was_changed_with_all_its_hashes_is_noticed(tamper: Callable[[Lines], Lines], said: str) -> None:
    with pytest.raises(AuditError, match=said):
        audit(chained(tamper(star())))


def test_a_round_in_which_all_was_left_out_hands_on_what_it_began_with() -> None:
    out = {"sha256_out": "start", "outcome": "skipped"}
    lines = [visit(0, "start", **out), visit(1, "start", **out), merge(0, {}, sha256_out="start"), visit(2, "start")]
    audit(chained(lines))
    with pytest.raises(AuditError, match=r"line 3 .* merges nothing, and handed on other weights"):
        audit(chained([*lines[:2], merge(0, {}), visit(2, "merge 0")]))


def test_a_round_may_be_made_with_other_settings_than_the_one_before_which_is_said() -> None:
    first, second = star()[:3], [replace(line, settings="t") for line in star()[3:]]
    assert audit(chained([*first, *second])).changed == ["visit 2 at 'a'"]


def _chain_with_a_merge_of_nothing() -> Lines:
    nothing = merge(0, {}, sha256_out="other weights")
    return [visit(0, "start", parent=""), visit(1, "out 0", parent=""), nothing]


def test_visits_that_were_left_out_are_not_merged() -> None:
    out = {"sha256_out": "start", "outcome": "skipped"}
    lines = [visit(0, "start", **out), visit(1, "start"), merge(0, {1: 5.0}), visit(2, "merge 0")]
    assert audit(chained(lines)).left_out == ["visit 0 at 'a' (skipped)"]
    with pytest.raises(AuditError, match="should merge visit 1"):
        audit(chained([*lines[:2], merge(0, {0: 4.0, 1: 5.0})]))


def test_a_visit_that_was_cut_short_counts_with_what_followed() -> None:
    parts = [visit(0, "start", outcome="cut short", sha256_out="part", images=1), visit(0, "part", images=3)]
    assert audit(chained([*parts, visit(1, "start"), merge(0, {0: 4.0, 1: 5.0})])).merges == 1
    again = [parts[0], visit(0, "start", images=3)]  # begun again, from an older checkpoint
    assert audit(chained([*again, visit(1, "start"), merge(0, {0: 3.0, 1: 5.0})])).merges == 1


def test_branches_of_several_visits_count_together_and_a_chain_may_come_first() -> None:
    chain = [visit(0, "start", parent=""), visit(1, "out 0", parent="")]
    ring = [visit(2, "out 1"), visit(3, "out 2", parent=""), visit(4, "out 1"), visit(5, "out 4", parent="")]
    lines = [*chain, *ring, merge(2, {3: 13.0, 5: 17.0}), visit(6, "merge 2")]
    assert audit(chained(lines)).merges == 1


def test_a_merge_that_is_repeated_is_compared_and_written_once(tmp_path: Any) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for line in star()[:3]:
        ledger.add(line)
    assert len(list(iter_lines(path))) == 3
    assert [entry.visit for entry in iter_entries(path)] == [0, 1]
    again = Ledger(path, FIRST)
    for line in star()[:2]:
        again.add(line)
    with pytest.raises(OtherWeightsError, match="the merge that ends cycle 0 was repeated"):
        again.add(merge(0, {0: 4.0, 1: 5.0}, sha256_out="else"))
    again = Ledger(path, FIRST)
    for line in star()[:3]:
        again.add(line)
    assert len(list(iter_lines(path))) == 3


def daisy(last: str = "a") -> Lines:
    """Two models, each of which makes two visits."""
    links = {1: {"sha256_in": "out 0", "parent": ""}, 3: {"sha256_in": "out 2", "parent": "", "site": last}}
    chains = [visit(n, "start", **{"cycle": 0, "site": "abba"[n], **links.get(n, {})}) for n in range(4)]
    return [*chains, merge(0, {1: 9.0, 3: 13.0})]


def test_a_round_may_come_to_each_site_as_often_as_to_any_other() -> None:
    assert audit(chained(daisy())).merges == 1
    with pytest.raises(AuditError, match=r"line 5 .* 'b' was visited 3 times in this round, and 'a' 1"):
        audit(chained(daisy(last="b")))
