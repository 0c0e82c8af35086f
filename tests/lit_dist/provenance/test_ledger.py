"""The file that the lines of a ledger grow in."""

import errno
import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ledger_lines import ENTRY, entry
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import Ledger, read_entries
from lit_dist.provenance.line import FIRST
from lit_dist.utils.errors import InputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def grown(path: Path, *entries: Entry) -> list[Entry]:
    ledger = Ledger(path)
    for each in entries:
        ledger.add(each)
    return read_entries(path)


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_ledger_grows_into_a_chain(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.jsonl"
    first, second = grown(path, entry(0), entry(1))
    assert first == entry(0)
    assert (first.previous, second.previous) == (FIRST, first.sha256)
    third = grown(path, entry(2))[2]
    assert third.previous == second.sha256
    assert Ledger(path).head == third.sha256


def test_nothing_is_written_before_the_first_entry(path: Path) -> None:
    assert Ledger(path).head == FIRST
    assert not path.exists()


def test_each_entry_is_on_disk_when_add_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    grown(path, entry(0), entry(1))
    assert [content.count(b"\n") for content in synced] == [1, 2]


def test_a_ledger_that_is_open_goes_on_after_its_last_line_without_reading_the_others(path: Path) -> None:
    grown(path, *(entry(visit) for visit in range(3)))
    ledger = Ledger(path)
    Ledger(path, ledger.head).add(entry(3))  # another object's line
    last = read_entries(path)[-1]
    path.write_bytes(b"x" + path.read_bytes()[1:])
    ledger.resume(last.sha256)
    ledger.add(entry(4))
    assert path.read_text().endswith(replace(entry(4), previous=last.sha256).line + "\n")
    with pytest.raises(InputError, match="line 1"):
        ledger.resume(last.sha256)  # which is not the last one any more


def test_a_ledger_that_is_open_goes_on_as_if_it_were_opened_anew(path: Path) -> None:
    ledger = Ledger(path)
    ledger.resume(FIRST)
    lines = grown(path, *(entry(visit) for visit in range(3)))
    ledger.resume(lines[1].sha256)
    ledger.add(entry(2))  # it is compared
    assert read_entries(path) == lines
    with path.open("a") as file:
        file.write(lines[0].line[:50])
    ledger.resume(lines[2].sha256)
    assert read_entries(path) == lines
    with pytest.raises(InputError, match="lacks the line"):
        ledger.resume("7" * 64)


def test_a_ledger_goes_on_after_a_head(path: Path) -> None:
    first, second, _ = grown(path, entry(0), entry(1), entry(2))
    before = path.read_bytes()
    assert Ledger(path, first.sha256).head == first.sha256
    assert Ledger(path, FIRST).head == FIRST
    ledger = Ledger(path, second.sha256)
    ledger.add(entry(2, seconds=9.5))
    assert path.read_bytes() == before
    ledger.add(entry(3))
    assert (
        read_entries(path)[3].previous
        == read_entries(path)[2].sha256
        == Entry.parse(before.decode().split("\n")[2]).sha256
    )


BEGINNINGS = (b'{"run": "r', ENTRY.line.encode()[:40], ENTRY.line.encode())


@pytest.mark.parametrize(("visits", "torn"), [*product((0, 2), BEGINNINGS), (2, b" "), (2, b"\xff\x00")])
def test_a_torn_last_line_is_cut_off_and_nothing_else(path: Path, visits: int, torn: bytes) -> None:
    lines = grown(path, *map(entry, range(visits))) if visits else []
    whole = path.read_bytes() if visits else b""
    path.write_bytes(whole + torn)
    assert Ledger(path).head == (lines[-1].sha256 if lines else FIRST)
    assert path.read_bytes() == whole
    assert len(grown(path, entry(visits))) == visits + 1


def test_a_damaged_line_is_named_and_left_as_it_is(path: Path) -> None:
    grown(path, entry(0), entry(1), entry(2))
    damaged = (
        path.read_bytes().replace(b'"images": 28', b'"images": 29', 2).replace(b'"images": 29', b'"images": 28', 1)
    )
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"ledger\.jsonl, line 2: it was changed"):
        Ledger(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"\xff\n", b"\n", b"{}\n"])
def test_what_is_no_ledger_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"ledger\.jsonl"):
        Ledger(path)
    assert path.read_bytes() == content


def test_reading_refuses_a_torn_line_a_folder_and_nothing(path: Path) -> None:
    grown(path, entry(0))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"ledger\.jsonl, line 1: it is cut short"):
        read_entries(path)
    for wrong in (path.parent, path.parent / "none.jsonl"):
        with pytest.raises(InputError, match=r"cannot be read as a ledger|is a folder, not a file"):
            read_entries(wrong)


@pytest.mark.parametrize("head", ["f" * 64, "", "none", replace(entry(1), previous=entry(0).sha256).sha256])
def test_a_head_that_is_not_there_or_was_cut_off_is_refused(path: Path, head: str) -> None:
    grown(path, entry(0))
    with pytest.raises(InputError, match=r"lacks the line that the checkpoint resumes after; it was changed or cut"):
        Ledger(path, head)


def test_a_chain_goes_on_in_a_new_file(path: Path, tmp_path: Path) -> None:
    head = grown(path, entry(0), entry(1))[-1].sha256
    ledger = Ledger(tmp_path / "version_1" / "ledger.jsonl", head)
    ledger.add(entry(2))
    ledger.add(entry(3))
    third, fourth = read_entries(ledger.path)
    assert (third.previous, fourth.previous) == (head, third.sha256)
    assert Ledger(ledger.path).head == fourth.sha256


# -- visits that are repeated ------------------------------------------------------------------------------------------


def test_repeated_visits_are_written_no_second_time(path: Path) -> None:
    first, second, third = grown(path, entry(0), entry(1), entry(2))
    before = path.read_bytes()
    ledger = Ledger(path, FIRST)
    for again, recorded in zip((entry(0), entry(1), entry(2)), (first, second, third), strict=True):
        ledger.add(replace(again, seconds=99.0, versions={}))
        assert ledger.head == recorded.sha256
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256_out": "9" * 64}, "ended with the weights 999999999999, but .* has 222222222222 for visit 1 at 'b'"),
        ({"sha256_in": "9" * 64}, "visit 1 at 'b' was repeated"),
        ({"visit": 2, "site": "a"}, "visit 2 at 'a' was repeated .* for visit 1 at 'b'"),
        ({"images": 27}, "settings, data or programs have changed"),
        ({"run": "other"}, "settings, data or programs have changed"),
    ],
)
def test_a_repeated_visit_with_another_result_ends_the_run(path: Path, change: dict[str, Any], told: str) -> None:
    grown(path, entry(0), entry(1))
    before = path.read_bytes()
    ledger = Ledger(path, FIRST)
    ledger.add(entry(0))
    with pytest.raises(RuntimeError, match=told):
        ledger.add(replace(entry(1), **change))
    assert path.read_bytes() == before


@pytest.mark.parametrize("outcome", ["diverged", "cut short"])
def test_a_line_of_a_visit_that_was_not_finished_is_passed_over(path: Path, outcome: Any) -> None:
    first, unfinished = grown(path, entry(0), entry(1, outcome=outcome, steps=2, sha256_out="8" * 64))
    ledger = Ledger(path, first.sha256)
    ledger.add(entry(1))
    ledger.add(entry(2))
    lines = read_entries(path)
    assert [line.outcome for line in lines] == ["trained", outcome, "trained", "trained"]
    assert lines[2].previous == unfinished.sha256
    ledger = Ledger(path, first.sha256)  # and once more: now it is compared with the line after
    ledger.add(entry(1))
    assert ledger.head == lines[2].sha256
    assert len(read_entries(path)) == 4


def test_behind_an_unfinished_visit_weights_are_still_compared(path: Path) -> None:
    first, *_ = grown(path, entry(0), entry(1, outcome="cut short", steps=2), entry(1))
    with pytest.raises(RuntimeError, match="visit 1 at 'b' was repeated"):
        Ledger(path, first.sha256).add(entry(1, sha256_out="9" * 64))


def test_a_visit_that_diverges_again_is_written_no_second_time(path: Path) -> None:
    first, _ = grown(path, entry(0), entry(1, outcome="diverged"))
    Ledger(path, first.sha256).add(entry(1, outcome="diverged"))
    assert len(read_entries(path)) == 2


# -- a disk that fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOSPC, "free some space in"), (errno.EDQUOT, "free some space in"), (errno.EIO, "Input/output error")],
)
def test_a_disk_that_fails_is_told(path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    ledger = Ledger(path)
    ledger.add(entry(0))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=rf"ledger\.jsonl could not be written: .*{told}"):
        ledger.add(entry(1))
    assert read_entries(path)[0] == entry(0)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"ledger\.jsonl could not be written"):
        Ledger(tmp_path / "file" / "ledger.jsonl").add(entry(0))
