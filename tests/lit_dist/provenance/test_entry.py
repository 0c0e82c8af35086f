"""A line of a ledger: it is read as it was written, and nothing else is read."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger_lines import ENTRY
from lit_dist.provenance.entry import Entry

BODY = json.loads(ENTRY.line)
del BODY["sha256"]


def forged(body: str) -> str:
    """A line with the right hash of whatever it says."""
    return f'{body[:-1]}, "sha256": "{hashlib.sha256(body[:-1].encode()).hexdigest()}"}}'


@pytest.mark.parametrize(
    "value",
    [
        ENTRY,
        replace(ENTRY, metrics={}, versions={}, learning_rates_start=[], learning_rates_end=[]),
        replace(ENTRY, outcome="cut short", previous="f" * 64, seconds=0.0, bytes=2**80),
        *(replace(ENTRY, outcome=outcome) for outcome in ("diverged", "skipped", "absent")),
    ],
)
def test_a_line_is_read_back_as_it_was(value: Entry) -> None:
    assert Entry.parse(value.line) == value
    assert Entry.parse(value.line).line == value.line
    assert "\n" not in value.line
    assert value.line.isascii()


def test_another_program_can_check_the_hash_of_a_line() -> None:
    body, _, end = ENTRY.line.rpartition(', "sha256": "')
    assert hashlib.sha256(body.encode()).hexdigest() == end.removesuffix('"}') == ENTRY.sha256


@pytest.mark.parametrize("name", BODY)
def test_every_changed_value_is_refused(name: str) -> None:
    other = {str: "x", int: 77, float: 7.5, list: [9.5], dict: {"train_loss": 9.5}}[type(BODY[name])]
    changed = json.dumps({**BODY, name: other, "sha256": ENTRY.sha256})
    with pytest.raises(ValueError, match=r"it was changed: its hash is another|there is no outcome 'x'|wrong type"):
        Entry.parse(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line + " ",
        lambda line: " " + line,
        lambda line: line + "\r",
        lambda line: line.replace(": ", ":", 1),
        lambda line: line.replace(", ", ",  ", 1),
        lambda line: line.replace("0.5", "0.50"),
        lambda line: line.replace("0.5", "5e-1"),
        lambda line: line.replace('"images": 28', '"images": 0, "images": 28'),
        lambda line: line.replace("\\u00e9", "é"),
        lambda line: line.replace("\\u00e9", "\\u00E9"),
        lambda line: json.dumps(dict(reversed(json.loads(line).items()))),
        lambda line: json.dumps(json.loads(line), sort_keys=True),
        lambda line: line.replace(f'"{ENTRY.sha256}"', "5"),
        lambda line: line.replace(ENTRY.sha256, ENTRY.sha256.upper()),
    ],
)
def test_the_same_values_written_in_another_way_are_refused(change: Callable[[str], str]) -> None:
    changed = change(ENTRY.line)
    assert changed != ENTRY.line
    with pytest.raises(ValueError, match="it was changed: its hash is another"):
        Entry.parse(changed)


OTHER_KEYS = [
    *({key: value for key, value in BODY.items() if key != name} for name in BODY if name != "origin"),
    *({**BODY, **extra} for extra in ({"note": 1}, {"self": 1}, {"": None})),
]
NO_ENTRIES = ["", "{}", "[]", "[1]", "1", "null", '"run"', "not json", "{", '{"run": "x"}', "\0"]


@pytest.mark.parametrize("line", [*NO_ENTRIES, *(forged(json.dumps(values)) for values in OTHER_KEYS)])
def test_what_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"it is not a ledger entry|it is not the JSON that a run writes"):
        Entry.parse(line)


WRONG: list[tuple[str, Any]] = [
    *((name, None) for name in BODY),
    *((name, 1) for name in ("run", "site", "outcome", "sha256_in", "sha256_out", "settings", "previous", "seconds")),
    *((name, 1.5) for name in ("visit", "cycle", "images", "steps", "bytes")),
    *((name, {}) for name in ("learning_rates_start", "learning_rates_end")),
    *((name, []) for name in ("versions", "metrics")),
    *(("visit", True), ("learning_rates_start", ["fast"]), ("learning_rates_end", [[0.1]])),
    *(("versions", {"torch": 2}), ("metrics", {"train_loss": [0.5]})),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_of_the_wrong_type_is_refused_though_the_hash_is_right(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"its '{name}' is of the wrong type"):
        Entry.parse(forged(json.dumps({**BODY, name: value})))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", *("9" * n for n in (400, 4300, 5000))])
@pytest.mark.parametrize("place", ['"train_loss": 0.5', '"seconds": 1.25', '"images": 28'])
def test_what_is_not_finite_is_refused_though_the_hash_is_right(place: str, constant: str) -> None:
    body = json.dumps(BODY)
    assert place in body
    with pytest.raises(ValueError, match=r"not a number that a run writes|not the JSON that a run writes"):
        Entry.parse(forged(body.replace(place, f"{place.partition(':')[0]}: {constant}")))


def test_no_entry_with_a_nan_is_made() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        _ = replace(ENTRY, metrics={"train_loss": float("nan")}).line


def test_an_outcome_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no outcome 'guessed'"):
        Entry.parse(forged(json.dumps({**BODY, "outcome": "guessed"})))


@pytest.mark.parametrize("depth", [*range(300, 1000, 50), 5_000, 100_000])  # at some, JSON is read and not written
@pytest.mark.parametrize("brackets", ["[]", '{"a":0}'])
def test_a_nesting_bomb_is_refused(depth: int, brackets: str) -> None:
    bomb = brackets[:-1].removesuffix("0") * depth + "0" + brackets[-1] * depth
    for line in (bomb, forged(json.dumps(BODY).replace("[0.001, 1e-300]", bomb))):
        with pytest.raises(
            ValueError, match=r"it is not the JSON that a run writes|is of the wrong type|not a ledger entry"
        ):
            Entry.parse(line)


@pytest.mark.parametrize(
    "change",
    [
        *({name: "x"} for name in ("run", "site", "sha256_in", "sha256_out")),
        *({name: 99} for name in ("visit", "cycle", "images", "steps")),
        {"outcome": "skipped"},
    ],
)
def test_visits_differ_by_what_was_trained_and_with_which_weights(change: dict[str, Any]) -> None:
    assert not ENTRY.same_visit(replace(ENTRY, **change))


def test_visits_are_the_same_whatever_time_they_took_and_stand_anywhere() -> None:
    assert ENTRY.same_visit(replace(ENTRY, seconds=9.5, previous="f" * 64, metrics={}, versions={}))
