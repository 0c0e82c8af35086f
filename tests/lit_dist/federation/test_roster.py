"""A site that gives no answer ends the run, or its visits are left out: by policy, and never silently."""

import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, SingleWeightTransfer, WeightTransfer
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation.engine import NoAnswerError
from lit_dist.federation.server import Server
from lit_dist.federation.site_state import SiteState
from lit_dist.federation.wire import Message, Tree
from lit_dist.provenance.verify import verify
from small_federation import SITES, InProcess, engine, federated, server

SAID = pytest.mark.filterwarnings("ignore:.*(gave no answer|is left out|lacks the records):UserWarning")


def make() -> WeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")


def outcomes() -> list[tuple[int, str, str]]:
    return [(entry.visit, entry.site, entry.outcome) for entry in federated()]


def without(parties: InProcess, site: str, *visits: int) -> None:
    """Let a site give no answer in these of its visits, counted from 0."""
    asked = 0

    def silent(question: str, who: str) -> bool:
        nonlocal asked
        asked += question == "train" and who == site
        return question == "train" and who == site and asked - 1 in visits

    parties.silent = silent


def skipping(
    parties: InProcess, make: Callable[[], WeightTransfer], epochs: int, checkpoint: Path | None = None
) -> None:
    """A run, or more of one, that leaves the visits of silent sites out."""
    given = {"max_epochs": epochs, "absent": "skip", "enable_checkpointing": True}
    server(parties, make, RunCheckpoint(), **given).run(checkpoint)


@pytest.mark.slow
def test_by_default_a_silent_site_ends_the_run_which_can_be_resumed() -> None:
    parties = engine(make)
    without(parties, "site-2", 0)
    with pytest.raises(NoAnswerError, match="site-2"):
        server(parties, make).run()
    assert outcomes() == [(0, "site-1", "trained")]
    server(parties, make).run(newest_checkpoint("server"))
    assert [outcome for _, _, outcome in outcomes()] == ["trained"] * 6


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"every_n_epochs": 1, "validation": "cycle"}, {"every_n_steps": 3}])
def test_by_policy_its_visit_is_left_out_with_a_line_and_warnings(settings: dict[str, Any]) -> None:
    def transfer() -> WeightTransfer:
        return CyclicalWeightTransfer(**settings, on_divergence="skip")

    epochs = {"max_epochs": 6 if "every_n_epochs" in settings else 2}
    parties = engine(transfer, **epochs)
    without(parties, "site-2", 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        server(parties, transfer, absent="skip", **epochs).run()
    said = " ".join(str(warning.message) for warning in caught)
    assert "site 'site-2' gave no answer to 'train'" in said
    assert "the visit at 'site-2' that is due is left out" in said
    assert "the validation lacks the records of site-2" in said
    sites = ["site-1", "site-2", "site-3"] * 2
    assert outcomes() == [(n, site, "absent" if n == 1 else "trained") for n, site in enumerate(sites)]
    left_out = federated()[1]
    assert (left_out.images, left_out.steps, left_out.sha256_in) == (0, 0, left_out.sha256_out)
    assert federated()[2].sha256_in == left_out.sha256_out == federated()[0].sha256_out
    assert {"val_loss/site-1", "val_loss/site-3"} <= federated()[2].metrics.keys()
    assert "val_loss/site-2" not in federated()[2].metrics
    assert "val_loss/site-2" in federated()[5].metrics  # it was there again
    assert "Visits that were left out: visit 1 at 'site-2' (absent)." in verify("server")


@pytest.mark.slow
@SAID
def test_what_is_left_of_a_visit_is_left_out_where_the_site_dies_in_it() -> None:
    def transfer() -> WeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=2, optimizer_state="carry")

    parties = engine(transfer, max_epochs=8)
    without(parties, "site-2", 1)  # its visit's second part, after a validation
    server(parties, transfer, absent="skip", max_epochs=8).run()
    assert [outcome for _, _, outcome in outcomes()] == ["trained", "absent", "trained", "trained"]
    assert federated()[1].steps == 4
    assert federated()[1].sha256_in != federated()[1].sha256_out == federated()[2].sha256_in
    assert "chain is whole" in verify("server")


@pytest.mark.slow
@SAID
@pytest.mark.parametrize("there", [0, 1])
@pytest.mark.parametrize("optimizer_state", ["reset", "local"])
def test_a_visit_that_was_left_out_and_cut_short_is_made_where_the_run_is_made_longer(
    there: int, optimizer_state: Any
) -> None:
    def transfer() -> WeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=3, optimizer_state=optimizer_state)

    parties = engine(transfer, max_epochs=5)
    without(parties, "site-2", there)  # of its visit's parts, each of which a validation ends
    skipping(parties, transfer, 5)
    parties = engine(transfer, max_epochs=6)
    skipping(parties, transfer, 6, newest_checkpoint("server"))
    assert outcomes() == [(0, "site-1", "trained"), (1, "site-2", "cut short"), (1, "site-2", "trained")]
    assert [entry.steps for entry in federated()][1:] == [4 * there, 4]
    assert "chain is whole" in verify("server")


@pytest.mark.slow
@SAID
def test_a_visit_that_was_left_out_takes_nothing_of_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def transfer() -> WeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=3)

    began: list[tuple[int, bool]] = []
    join = SiteState.join

    def watched(self: SiteState, baton: Tree, due: int, left_out: int | None, came_before: bool) -> Tree:
        joined = join(self, baton, due, left_out, came_before)
        began.append((due, bool(joined["optimizer_states"][0]["state"])))
        return joined

    parties = engine(transfer, max_epochs=14)
    without(parties, "site-2", *range(2, 9))  # in the last part of its first visit, and in all of its second one
    skipping(parties, transfer, 14)
    monkeypatch.setattr(SiteState, "join", watched)
    parties = engine(transfer, max_epochs=15)
    skipping(parties, transfer, 15, newest_checkpoint("server"))
    assert began == [(4, False)]
    assert "chain is whole" in verify("server")


@pytest.mark.slow
@SAID
def test_what_stayed_of_a_visit_that_was_left_out_in_part_is_needed() -> None:
    def transfer() -> WeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=3)

    parties = engine(transfer, max_epochs=5)
    without(parties, "site-2", 1)
    skipping(parties, transfer, 5)
    for stay in Path().rglob("*.stay"):
        stay.unlink()
    parties = engine(transfer, max_epochs=6)
    with pytest.raises(InputError, match=r"site-2.*the visit cannot be resumed"):
        skipping(parties, transfer, 6, newest_checkpoint("server"))


@pytest.mark.slow
@SAID
def test_a_plateau_is_not_waited_for_where_nobody_trains() -> None:
    def transfer() -> WeightTransfer:
        return SingleWeightTransfer(patience=2, max_epochs_per_site=4)

    parties = engine(transfer, max_epochs=12)
    without(parties, "site-2", 0)
    run = server(parties, transfer, absent="skip", max_epochs=12)
    run.run()
    assert outcomes() == [(0, "site-1", "trained"), (1, "site-2", "absent"), (2, "site-3", "trained")]
    assert run.trainer.current_epoch == parties.asked.count("train")  # one epoch each time, also where nobody answered


@pytest.mark.slow
@SAID
def test_a_run_continues_without_a_site_that_was_there_when_it_began() -> None:
    parties = engine(make)
    parties.silent = lambda question, site: question == "train" and site == "site-2"
    with pytest.raises(NoAnswerError, match="site-2"):
        server(parties, make).run()
    parties.silent = lambda question, site: site == "site-2"
    server(parties, make, absent="skip").run(newest_checkpoint("server"))
    assert [outcome for _, _, outcome in outcomes()] == ["trained", "absent", "trained"] * 2


@SAID
@pytest.mark.parametrize(
    ("silent", "message"),
    [
        (lambda _, site: site == "site-2", "'site-2' gives no answer, and a run begins with all its sites"),
        (lambda question, _: question == "train", "no site answers any more"),
    ],
)
def test_a_run_needs_all_its_sites_to_begin_and_one_to_continue(
    silent: Callable[[str, str], bool], message: str
) -> None:
    parties = engine(make)
    parties.silent = silent
    with pytest.raises(NoAnswerError, match=message):
        server(parties, make, absent="skip").run()


@pytest.mark.slow
@SAID
@pytest.mark.parametrize("kept", [[], [RunCheckpoint]], ids=["asks again", "continues after it"])
def test_a_server_that_is_killed_after_a_visit_that_was_left_out_resumes(
    kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def keep(self: Server, state: Any) -> None:
        if [entry.outcome for entry in federated()] == ["trained", "absent"]:
            raise Killed
        usual(self, state)

    usual = Server._keep
    settings: dict[str, Any] = {"absent": "skip", "max_epochs": 3, "enable_checkpointing": bool(kept)}
    parties = engine(make, max_epochs=3)
    without(parties, "site-2", 0)
    Path("server").mkdir()
    Path("server/ledger.jsonl").touch()
    with monkeypatch.context() as patch:
        patch.setattr(Server, "_keep", keep)
        with pytest.raises(Killed):
            server(parties, make, *(kind() for kind in kept), **settings).run()
    server(parties, make, *(kind() for kind in kept), **settings).run(newest_checkpoint("server"))
    again = [] if kept else [(1, "site-2", "trained")]
    assert outcomes() == [(0, "site-1", "trained"), (1, "site-2", "absent"), *again, (2, "site-3", "trained")]
    assert "chain is whole" in verify("server")


@pytest.mark.slow
@SAID
def test_an_answer_that_comes_too_late_leaves_nothing_behind() -> None:
    def transfer() -> WeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=1, validation="cycle", optimizer_state="local")

    def late(killed: bool) -> InProcess:
        visits: dict[str, int] = Counter()

        def change(question: str, site: str, answer: Message) -> Message:
            visits[site] += question == "train"
            if (question, site, visits[site]) == ("train", "site-2", 2):
                raise NoAnswerError("too late", [site])
            if (question, site, visits[site], killed) == ("train", "site-3", 2, True):
                raise KeyboardInterrupt
            return answer

        parties = engine(transfer, max_epochs=9)
        parties.change = change
        return parties

    silent = engine(transfer, max_epochs=9)
    without(silent, "site-2", 1)
    found = []
    for parties, killed in ((silent, False), (late(False), False), (late(True), True)):
        with pytest.raises(KeyboardInterrupt) if killed else nullcontext():
            server(parties, transfer, absent="skip", max_epochs=9).run()
        if killed:
            server(parties, transfer, absent="skip", max_epochs=9).run(newest_checkpoint("server"))
        assert outcomes()[4] == (4, "site-2", "absent")
        found.append([entry.sha256_out for entry in federated()])
        for folder in ("server", *SITES):
            rmtree(folder)
    assert found[0] == found[1] == found[2]
