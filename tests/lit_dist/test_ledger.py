from pathlib import Path

import pytest

from lit_dist.ledger import Entry, Ledger

ENTRY = Entry("run", 0, 0, "Charité", 10, 5, "a" * 64, "b" * 64, 100, 1.5)


def test_a_ledger_grows_and_is_read_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "ledger.jsonl")
    ledger.append(ENTRY)
    Ledger(ledger.path).append(ENTRY)
    assert ledger.entries() == [ENTRY, ENTRY]


@pytest.mark.parametrize("line", ["", "{}", "[1]", "not json", '{"run": "x", "unknown": 1}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(ENTRY)
    with ledger.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"ledger\.jsonl, line 2 is not a ledger entry"):
        ledger.entries()
