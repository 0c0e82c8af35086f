"""The line of an estimation, and what an audit says of one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger_lines import entry
from lit_dist.provenance.audit import Audit, AuditError, audit
from lit_dist.provenance.estimation import Estimation
from lit_dist.provenance.ledger import AnyLine, Ledger, OtherWeightsError, iter_lines, parse_entry

LINE = Estimation(
    run="run",
    kind="estimation",
    what="TablePreparation",
    sites=["a", "b"],
    records=[28, 0],
    parents=["2" * 64, "3" * 64],
    sizes=[416, 384],
    sums=["counts", "records"],
    sha256_out="0" * 64,
    seconds=0.25,
    settings="5" * 64,
    versions={"torch": "2.14.1"},
)


def chained(*lines: AnyLine) -> Audit:
    Path("ledger.jsonl").unlink(missing_ok=True)
    ledger = Ledger(Path("ledger.jsonl"))
    for line in lines:
        ledger.add(line)
    return audit(iter_lines(Path("ledger.jsonl")))


def test_a_line_is_read_as_it_was_written() -> None:
    assert parse_entry(LINE.line.encode() + b"\n") == LINE
    assert parse_entry(entry(0).line.encode() + b"\n") == entry(0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sites": ["a"]}, "are not as many"),
        ({"sites": [], "records": [], "parents": [], "sizes": []}, "are not as many"),
        ({"sites": ["a", "a"]}, "names a site twice"),
        ({"records": ["28", 0]}, "'records' is of the wrong type"),
        ({"sums": "counts"}, "'sums' is of the wrong type"),
    ],
)
def test_what_no_run_writes_is_refused(values: dict[str, Any], message: str) -> None:
    changed = replace(LINE, **values)
    with pytest.raises(ValueError, match=message):
        Estimation.parse(changed.line)


def test_the_first_visit_begins_with_what_was_estimated() -> None:
    seen = chained(LINE, entry(0), entry(1))
    assert (seen.visits, seen.merges, seen.estimations, seen.runs) == (2, 0, 1, 1)
    with pytest.raises(AuditError, match=r"line 2 .*the estimation of TablePreparation had left 777777777777"):
        chained(replace(LINE, sha256_out="7" * 64), entry(0))


def test_each_run_has_its_own_and_before_its_visits() -> None:
    other = {"run": "other"}
    again = replace(LINE, **other)
    assert chained(LINE, again, entry(0, **other)).runs == 2, "the first run was killed before its first checkpoint"
    assert chained(LINE, entry(0), entry(1), again, entry(0, **other)).estimations == 2
    with pytest.raises(AuditError, match="it belongs before the visits of its run"):
        chained(entry(0), replace(LINE, sha256_out="1" * 64), entry(1))


def test_one_that_is_repeated_is_compared_with_its_line() -> None:
    path = Path("ledger.jsonl")
    Ledger(path).add(LINE)
    Ledger(path, head="0" * 64).add(replace(LINE, seconds=9.0))
    assert len([*iter_lines(path)]) == 1
    with pytest.raises(OtherWeightsError, match="the estimation of TablePreparation was repeated"):
        Ledger(path, head="0" * 64).add(replace(LINE, sha256_out="7" * 64))
