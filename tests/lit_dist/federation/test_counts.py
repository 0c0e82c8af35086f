"""Limits are counted in the site's own file, whatever the server says."""

import json
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation.counts import COUNTS, Counts, Limits, PartialFit
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.wire import Message, Tree, pack, unpack
from small_federation import InProcess, engine, federated, server

FIRST = PartialFit("0" * 32, "a", "weights", (0, 0, 0))
TWO = Limits(max_visits=2, max_epochs=2)


def test_a_leg_that_is_repeated_counts_once_and_another_baton_for_the_same_visit_as_another() -> None:
    for _ in range(5):
        Counts(Path("site")).charge(FIRST, 0, 0, TWO)
    Counts(Path("site")).charge(replace(FIRST, sha256="b"), 0, 0, TWO)
    for _ in range(2):
        with pytest.raises(Refusal, match="max_visits: 2, and the run would make 3"):
            Counts(Path("site")).charge(replace(FIRST, sha256="c"), 0, 0, TWO)
    with pytest.raises(Refusal, match="max_epochs: 2, and the run would train 3 here"):
        Counts(Path("site")).charge(replace(FIRST, sha256="c"), 0, 0, Limits(max_epochs=2))


def test_a_visit_in_several_legs_counts_once_unless_it_forks() -> None:
    counts = Counts(Path("site"))
    counts.charge(FIRST, 0, 0, TWO)
    counts.end(FIRST, "trained", (4, 0, 4), epoch_over=False)
    second = PartialFit(FIRST.run, "b", "trained", (4, 0, 4))
    counts.charge(second, 0, 0, Limits(max_visits=1, max_epochs=1))
    counts.charge(second, 0, 1, Limits(max_visits=1, max_epochs=2))
    for other in (replace(second, sha256="c"), PartialFit(FIRST.run, "d", "trained", (4, 0, 0))):
        with pytest.raises(Refusal, match="max_visits: 1"):
            counts.charge(other, 0, 0, Limits(max_visits=1))


def test_weights_that_come_back_to_an_epoch_that_was_over_are_another_visit() -> None:
    counts = Counts(Path("site"))
    counts.charge(FIRST, 0, 0, TWO)
    counts.end(FIRST, "trained", (4, 0, 0), epoch_over=True)
    with pytest.raises(Refusal, match="max_epochs: 1"):
        counts.charge(PartialFit(FIRST.run, "b", "trained", (4, 0, 0)), 0, 0, Limits(max_epochs=1))


def test_an_epoch_of_several_visits_counts_once() -> None:
    for number in range(3):
        leg = replace(FIRST, sha256=str(number), by_steps=True)
        Counts(Path("site")).charge(leg, number, 0, Limits(max_epochs=1))


def test_a_visit_that_goes_through_the_images_several_times_counts_as_often() -> None:
    leg = replace(FIRST, by_steps=True, passes=3)
    with pytest.raises(Refusal, match="max_epochs: 2, and the run would train 3 here"):
        Counts(Path("site")).charge(leg, 0, 0, Limits(max_epochs=2))
    Counts(Path("site")).charge(leg, 0, 0, Limits(max_epochs=3))


def test_a_new_run_gains_nothing_of_a_limit_for_all() -> None:
    limits = Limits(max_visits_in_all=2, max_validations_in_all=2)
    counts = Counts(Path("site"))
    for number in range(2):
        counts.charge(replace(FIRST, run=str(number)), 0, 0, limits)
        for _ in range(3):
            counts.validate(f"weights {number}", limits)
    with pytest.raises(Refusal, match="max_visits_in_all: 2, and all runs together would make 3"):
        counts.charge(replace(FIRST, run="2"), 0, 0, limits)
    with pytest.raises(Refusal, match="max_epochs_in_all: 2"):
        counts.charge(replace(FIRST, run="2"), 0, 0, Limits(max_epochs_in_all=2))
    with pytest.raises(Refusal, match="max_validations_in_all: 2"):
        counts.validate("weights 2", limits)


def test_the_file_remembers_the_last_validations_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.federation.counts._REMEMBERED", 2)
    for number in range(5):
        Counts(Path("site")).validate(str(number), Limits())
    counts = json.loads(Path("site", COUNTS).read_text())
    assert (counts["validations"], counts["remembered"]) == (5, ["3", "4"])


NOTHING = '{"format": 1, "runs": {}, "validations": 0, "remembered": []}'
TRAINED = (
    '{"a": {"by_steps": false, "legs": {"b": {"follows": null, "trained": [[0, 0]], "out": ["w", 4, 0, 4, true]}}}}'
)
COUNTED = NOTHING.replace("{}", TRAINED)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "[]", "{}", "null", f"\ufeff{NOTHING}", NOTHING * 2, NOTHING.replace('"', "'")),
        *(NOTHING.replace(": 1", f": {value}") for value in ("1.0", "true", '"1"', "2")),
        *(NOTHING.replace(": 0", f": {value}") for value in ("0.0", "1e3", "NaN", "-1", "null", '"0"', "9" * 5000)),
        *(NOTHING.replace("[]", value) for value in ("null", "{}", "[1]", '[], "runs": {}', '[], "more": 1')),
        *(NOTHING.replace("{}", value) for value in ("[]", '{"a": 1}', '{"a": {"by_steps": true, "legs": []}}')),
        *(COUNTED.replace("[[0, 0]]", value) for value in ("[]", "[[0.0, 0]]", "[[0]]", "[[-1, 0]]", "[[true, 0]]")),
        *(COUNTED.replace(*change) for change in [("null", '"b"'), ("true", "1"), ("4, 0, 4", "4, 0"), ("false", "0")]),
    ],
)
def test_a_damaged_file_is_never_set_back(text: str) -> None:
    Path("site").mkdir()
    Path("site", COUNTS).write_text(text)
    with pytest.raises(Refusal, match="is damaged"):
        Counts(Path("site")).charge(FIRST, 0, 0, Limits())
    assert Path("site", COUNTS).read_text() == text


@pytest.mark.parametrize("text", [NOTHING, COUNTED])
def test_a_whole_file_is_counted_on_from_however_it_is_laid_out(text: str) -> None:
    Path("site").mkdir()
    Path("site", COUNTS).write_text(json.dumps(json.loads(text), indent=2).replace("\n", "\r\n"))
    Counts(Path("site")).charge(FIRST, 0, 0, Limits())
    runs = json.loads(Path("site", COUNTS).read_text())["runs"]
    assert {**json.loads(text)["runs"], FIRST.run: runs[FIRST.run]} == runs


def test_a_link_to_a_file_that_is_gone_is_no_beginning() -> None:
    Path("site").mkdir()
    Path("site", COUNTS).symlink_to("not mounted")
    with pytest.raises(Refusal, match="is damaged or cannot be read"):
        Counts(Path("site")).charge(FIRST, 0, 0, TWO)


def _charge(number: int) -> None:
    for visit in range(5):
        Counts(Path("site")).charge(replace(FIRST, sha256=f"{number} {visit}"), visit, visit, Limits())


def test_processes_count_together() -> None:
    with get_context("fork").Pool(3) as pool:
        pool.map(_charge, range(3))
    [run] = json.loads(Path("site", COUNTS).read_text())["runs"].values()
    assert len(run["legs"]) == 15


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")


def limited(**limits: int) -> InProcess:
    parties = engine(make, max_epochs=4)
    for party in parties.parties.values():
        party._limiter.limits = Limits(**limits)
    return parties


@pytest.mark.slow
def test_replays_of_a_visit_are_refused_also_after_an_interruption_and_a_restart() -> None:
    parties = limited(max_visits=2, max_epochs=6)

    def change(question: str, site: str, answer: Message) -> Message:
        if parties.asked.count("train") == 4:
            raise KeyboardInterrupt  # when a site has trained, and the server has no answer
        return answer

    parties.change = change
    with pytest.raises(KeyboardInterrupt):
        server(parties, make, max_epochs=4).run()
    parties = limited(max_visits=2, max_epochs=6)
    server(parties, make, max_epochs=4).run(newest_checkpoint("server"))
    assert len(federated()) == 4
    question = next(unpack(each) for each in parties.content if "visit" in unpack(each))
    others = engine(make, max_epochs=4, gradient_clip_val=0.5).parties["site-1"]
    others._limiter.limits = Limits(max_visits=2)
    assert "max_visits" in unpack(others.answer("train", pack(question)))["refused"]  # the same baton, other settings
    for run in (None, "0" * 32):
        assert "max_visits" in replayed(limited(max_visits=2, max_visits_in_all=2), question, run)
    Path("site-1", COUNTS).unlink()
    assert "limits.json is gone" in replayed(limited(max_visits=2), question, None)


def replayed(parties: InProcess, question: Tree, run: str | None) -> str:
    weights = question["baton"]["state_dict"]
    weights[next(iter(weights))].add_(1e-3)
    [account] = question["baton"]["callbacks"].values()
    account["record"].update(run=run or account["record"]["run"], sha256_out=fingerprint(weights)[0])
    answer: str = unpack(parties.parties["site-1"].answer("train", pack(question)))["refused"]
    return answer
