"""Federated averaging in a federation: its visits and merges are those of a simulation, bit for bit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lit_dist import InputError, Visit, VisitCallback, read_checkpoint
from lit_dist.callbacks import DaisyChaining, FederatedAveraging, FedProx, RunCheckpoint, WeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation import wire
from lit_dist.federation.early_answers import EarlyAnswers
from lit_dist.federation.engine import NoAnswerError
from lit_dist.federation.roster import Roster
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import iter_lines
from lit_dist.provenance.line import Line
from lit_dist.provenance.merge import Merge
from lit_dist.provenance.verify import verify
from small_federation import SITES, InProcess, data, engine, federated, kill_at, module, server, simulate, trainer


class Travels(VisitCallback):
    """A mean that travels, a count that stays, and a change of the merged weights."""

    def begin_run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.travelling = {"mean": 0.0, "tensor": torch.zeros(2)}

    def on_visit_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        self.staying["visits"] = self.staying.get("visits", 0) + 1
        self.travelling["mean"] += visit.number * self.staying["visits"]
        self.travelling["tensor"] = self.travelling["tensor"] + visit.number

    def on_cycle_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        first = next(pl_module.parameters())
        first.data.add_(self.travelling["mean"] / 1000)


CASES: dict[str, tuple[Callable[[], WeightTransfer], dict[str, Any]]] = {
    "epochs": (lambda: FederatedAveraging(every_n_epochs=1), {}),
    "steps": (
        lambda: FederatedAveraging(every_n_steps=3, optimizer_state="local", weighting="equal"),
        {"max_epochs": 2},
    ),
    "cycles first": (lambda: FederatedAveraging(every_n_epochs=1, cycles_first=1), {"max_epochs": 9}),
    "rings": (lambda: FederatedAveraging(every_n_epochs=1, ring=2, weighting="equal"), {}),
    "daisy chains, steps": (
        lambda: DaisyChaining(every_n_steps=3, optimizer_state="local", weighting="equal"),
        {"max_epochs": 2},
    ),
    "several passes, unvalidated": (
        lambda: FederatedAveraging(every_n_epochs=2, optimizer_state="local"),
        {"max_epochs": 12, "limit_val_batches": 0},
    ),
}


def lines(folder: str) -> list[tuple[Any, ...]]:
    """What a ledger says, but for times and its own hashes."""

    def told(line: Line) -> tuple[Any, ...]:
        loss = {name: value for name, value in line.metrics.items() if "val_loss" in name}  # type: ignore[attr-defined]
        return *(getattr(line, name) for name in line.facts if name != "run"), line.settings, loss  # type: ignore[attr-defined]

    return [told(line) for line in iter_lines(Path(folder) / "ledger.jsonl")]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["epochs", *(pytest.param(case, marks=pytest.mark.slow) for case in list(CASES)[1:])])
def test_each_visit_and_merge_equals_that_of_the_simulation(case: str) -> None:
    make, settings = CASES[case]
    simulate(make, Travels(), FedProx(0.1), **settings)
    parties = engine(make, Travels, lambda: FedProx(0.1), **settings)
    run = server(parties, make, Travels(), FedProx(0.1), **settings)
    run.run()
    assert lines("server") == lines("simulated")
    last = [line for line in iter_lines(Path("server/ledger.jsonl")) if isinstance(line, Merge)][-1]
    assert fingerprint(run.module.state_dict())[0] == last.sha256_out
    assert " and 2 merges" in verify("server")


@pytest.mark.slow
def test_a_server_that_is_killed_in_its_rounds_ends_the_same() -> None:
    make, settings = CASES["epochs"]
    simulate(make, Travels(), **settings)
    for dies_at in (1, 5, 0):  # of the visits that are left
        parties = engine(make, Travels, **settings)
        kill_at(parties, dies_at)
        newest = newest_checkpoint("server") if Path("server").exists() else None
        try:
            server(parties, make, Travels(), **settings).run(newest)
        except KeyboardInterrupt:
            continue
    assert lines("server") == lines("simulated")
    assert "chain is whole" in verify("server")


@pytest.mark.slow
def test_the_visits_of_a_round_are_asked_for_together_and_no_answer_is_lost() -> None:
    make, settings = CASES["epochs"]
    parties = engine(make, **settings)
    kill_at(parties, 3)
    with pytest.raises(KeyboardInterrupt):
        server(parties, make, **settings).run()
    assert not Path("server/ledger.jsonl").exists(), "no answer was taken before all were there"
    assert len(list(Path("server/early_answers").iterdir())) == 2
    again = engine(make, **settings)
    asked: list[tuple[str, str]] = []
    again.silent = lambda question, site: bool(asked.append((question, site)))  # type: ignore[func-returns-value]
    server(again, make, **settings).run(newest_checkpoint("server"))
    assert [site for question, site in asked if question == "train"] == ["site-3", *SITES]
    assert not Path("server/early_answers").exists()
    simulate(make, **settings)
    assert lines("server") == lines("simulated")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "epochs", "remedies", "order"),
    [
        (lambda: FederatedAveraging(every_n_epochs=1, ring=2), 3, [], [0, 2, 1]),
        (lambda: DaisyChaining(every_n_epochs=1, average_every=3, seed=1), 9, [], [0, 3, 6, 1, 4, 7, 2, 5, 8]),
        (lambda: DaisyChaining(every_n_epochs=1, seed=1), 6, [Travels], None),
    ],
    ids=["rings", "daisy chains", "what stays"],
)
def test_visits_that_do_not_wait_for_each_other_are_asked_for_before_those_that_do(
    make: Callable[[], WeightTransfer], epochs: int, remedies: list[Callable[[], Callback]], order: list[int] | None
) -> None:
    parties = engine(make, *remedies, max_epochs=epochs)
    run = server(parties, make, *(each() for each in remedies), max_epochs=epochs)
    asked: list[int] = []
    ask = parties.ask

    def noted(question: str, content: wire.Message, sites: Sequence[str]) -> dict[str, wire.Message]:
        asked.extend([wire.unpack(content)["visit"]] if question == "train" else [])
        return ask(question, content, sites)

    parties.ask = noted  # type: ignore[method-assign]
    run.run()
    assert sorted(asked) == [*range(epochs)], "each once"
    places = [make().itinerary(SITES).site(visit) for visit in asked]
    for site in SITES if order is None else ():
        own = [visit for visit, place in zip(asked, places, strict=True) if place == site]
        assert own == sorted(own), "what stays there goes on from visit to visit"
    assert order in (None, asked)
    simulate(make, *(each() for each in remedies), max_epochs=epochs)
    assert lines("server") == lines("simulated")


@pytest.mark.parametrize("damage", [b"", b"else"])
def test_an_early_answer_that_is_damaged_is_asked_for_again(damage: bytes) -> None:
    early = EarlyAnswers(Path())
    question = {"visit": 3, "baton": {"w": torch.ones(2)}}
    early.keep(question, {"w": torch.zeros(2)})
    assert early.has(question)
    assert not early.has({**question, "baton": {"w": torch.zeros(2)}})
    [path] = early.folder.iterdir()
    path.write_bytes(damage)
    assert not early.has(question)


def test_an_engine_that_can_is_asked_by_several_threads_at_once() -> None:
    barrier = Barrier(3, timeout=20)  # which nobody passes alone

    class AtOnce:
        at_once = True

        def ask(self, question: str, content: wire.Message, sites: Sequence[str]) -> dict[str, wire.Message]:
            barrier.wait()
            if sites == ["site-2"]:
                raise NoAnswerError("site-2 is silent", sites)
            return {site: content for site in sites}

    received: dict[str, wire.Tree | None] = {}
    contents: dict[str, wire.Tree] = {site: {"of": site} for site in SITES}
    with pytest.warns(UserWarning, match="'site-2' gave no answer"):
        Roster(AtOnce(), SITES, "skip").ask_each("train", contents, received.__setitem__)
    assert received == {**contents, "site-2": None}
    with pytest.raises(NoAnswerError, match="site-2 is silent"):
        Roster(AtOnce(), SITES).ask_each("train", contents, received.__setitem__)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(in the middle of a cycle|ended within a round)")
@pytest.mark.parametrize(("passes", "ends"), [(1, (4, 6)), pytest.param(2, (3, 9, 12), marks=pytest.mark.long)])
def test_a_run_that_ends_within_a_round_or_a_visit_is_made_longer(passes: int, ends: tuple[int, ...]) -> None:
    def make() -> WeightTransfer:
        return FederatedAveraging(every_n_epochs=passes)

    for epochs in ends:
        settings: dict[str, Any] = {"max_epochs": epochs, "enable_checkpointing": True}
        kept = [newest_checkpoint(folder) if Path(folder).exists() else None for folder in ("simulated", "server")]
        simulate(make, RunCheckpoint(), checkpoint=kept[0], **settings)
        server(engine(make, max_epochs=epochs), make, RunCheckpoint(), **settings).run(kept[1])
    assert lines("server") == lines("simulated")
    assert " and 2 merges" in verify("server")


@pytest.mark.slow
def test_the_best_model_is_a_mean() -> None:
    def best(folder: str) -> Callback:
        return ModelCheckpoint(dirpath=f"{folder}/best", monitor="val_loss", enable_version_counter=False)

    make, settings = CASES["epochs"]
    settings = {**settings, "enable_checkpointing": True}
    simulate(make, best("simulated"), RunCheckpoint(), **settings)
    server(engine(make), make, best("server"), RunCheckpoint(), **settings).run()
    found = [next(Path(folder, "best").iterdir()) for folder in ("simulated", "server")]
    hashes = {fingerprint(read_checkpoint(path)["state_dict"])[0] for path in found}
    merged = {line.sha256_out for line in iter_lines(Path("server/ledger.jsonl")) if isinstance(line, Merge)}
    assert len(hashes) == 1
    assert hashes < merged


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(gave no answer|is left out|lacks the records|returned `None`)")
@pytest.mark.parametrize("place", [1, 2])
def test_a_site_that_is_absent_is_left_out_of_the_mean_as_in_a_simulation(place: int) -> None:
    make, settings = CASES["epochs"]
    parties = engine(make, **settings)
    asked: list[str] = []

    def silent(question: str, site: str) -> bool:
        asked.extend([site] if question == "train" else [])
        return question == "train" and site == SITES[place] and asked.count(site) == 1

    parties.silent = silent
    server(parties, make, absent="skip", **settings).run()
    merge = next(line for line in iter_lines(Path("server/ledger.jsonl")) if isinstance(line, Merge))
    assert merge.visits == [visit for visit in range(3) if visit != place]
    assert [entry.outcome for entry in federated()].count("absent") == 1

    class LeaveOut(Callback):
        takes_part = False

        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            transfer.left_out = [SITES[place]] if trainer.current_epoch == place else []

    transfer = make()
    trainer(Path("simulated"), transfer, LeaveOut(), **settings).fit(module(), data())
    found = [[line[:-1] for line in lines(folder) if "absent" not in line] for folder in ("server", "simulated")]
    assert found[0] == found[1]
    assert "chain is whole" in verify("server")


def lie(parties: InProcess, change: Callable[[wire.Tree], None]) -> None:
    """Let the second site change what its answer says of the round."""

    def changed(question: str, site: str, answer: wire.Message) -> wire.Message:
        if question != "train" or site != "site-2":
            return answer
        tree = wire.unpack(answer)
        state = next(state for state in tree["baton"]["callbacks"].values() if "merging" in state)
        change(state["merging"])
        return wire.pack(tree)

    parties.change = changed


@pytest.mark.slow
@pytest.mark.parametrize("place", SITES)
def test_honest_sites_resume_after_a_lie(place: str) -> None:
    make, settings = CASES["epochs"]
    parties = engine(make, **settings)
    parties.tamper("train", place, lambda tree: next(iter(tree["baton"]["state_dict"].values())).fill_(torch.nan))
    with pytest.raises(InputError, match=f"site '{place}'"):
        server(parties, make, **settings).run()
    newest = newest_checkpoint("server")
    server(engine(make, **settings), make, **settings).run(newest)
    simulate(make, **settings)
    assert lines("server") == lines("simulated")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"ended": (1, "trained", 10**6, "0" * 64)},
        {"ended": None},
        {"images": 1000},
        {"branch": False},
        {"base": {}},
        {"schedules": None},
    ],
)
def test_a_site_that_lies_of_the_round_is_refused(change: dict[str, Any]) -> None:
    make, settings = CASES["epochs"]
    parties = engine(make, **settings)
    lie(parties, lambda merging: merging.update(change))
    with pytest.raises(InputError, match=r"site 'site-2'.* its account of the round"):
        server(parties, make, **settings).run()
    assert [entry.site for entry in federated()] == ["site-1"]


@pytest.mark.parametrize(
    "change",
    [
        {"base": {}},
        {"total": 7.0},
        {"waiting": {}},
        {"branch": 1},
        {"images": -1},
        {"ended": (0, "trained", 5, "0" * 64)},
        {"ended": (0, "cut short", 5, "else")},
        {"schedules": {"schedulers": [], "groups": [[{"lr": "0.1"}]]}},
        {"schedules": {"schedulers": [{"step": "print"}], "groups": []}},
    ],
)
def test_a_server_that_lies_of_the_round_is_refused(asked: tuple[InProcess, wire.Tree], change: dict[str, Any]) -> None:
    parties, question = asked
    callbacks = question["baton"]["callbacks"]
    key = next(name for name, state in callbacks.items() if "merging" in state)
    lying = {**callbacks[key], "merging": {**callbacks[key]["merging"], **change}}
    baton = {**question["baton"], "callbacks": {**callbacks, key: lying}}
    answer = parties.parties["site-1"].answer("train", wire.pack({**question, "baton": baton}))
    assert "account of" in wire.unpack(answer)["refused"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[InProcess, wire.Tree]:
    """The sites of a run, and the question for its first visit."""
    make, settings = CASES["epochs"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("asked"))
        parties = engine(make, **settings)
        kill_at(parties, 1)
        with pytest.raises(KeyboardInterrupt):
            server(parties, make, **settings).run()
    trees = [wire.unpack(content) for content in parties.content]
    return parties, next(tree for tree in trees if "left_out" in tree)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "more"), [("epochs", 1), ("steps", 10**6)])
def test_a_site_that_says_more_images_than_it_has_greeted_with_is_refused(case: str, more: int) -> None:
    make, settings = CASES[case]
    parties = engine(make, **settings)

    def lie(answer: dict[str, Any]) -> None:
        [account] = answer["baton"]["callbacks"].values()
        visit, outcome, images, sha256 = account["merging"]["ended"]
        account["merging"]["ended"] = (visit, outcome, images + more, sha256)
        if account["record"]["waiting"]:
            account["record"]["waiting"]["images"] += more
        else:
            entry = Entry.parse(answer["entries"][0])
            entry = replace(entry, images=images + more)
            answer["entries"][0], account["record"]["head"] = entry.line, entry.sha256

    parties.tamper("train", "site-2", lie)
    with pytest.raises(InputError, match=r"site 'site-2' is refused: it says that it has trained on \d+ records, and"):
        server(parties, make, **settings).run()


@pytest.mark.slow
def test_a_loss_of_nan_after_a_merge_names_it_and_whose_weights_it_is_made_of() -> None:
    make, settings = CASES["epochs"]
    parties = engine(make, **settings)
    parties.tamper("validate", None, lambda answer: answer["metrics"].update(val_loss=torch.nan))
    of = "the merge that ends cycle 0, of the weights of visit 0 at 'site-1', visit 1 at 'site-2', visit 2 at 'site-3'"
    with pytest.raises(InputError, match=rf"^after {of}: 'val_loss' of site 'site-1', .*; that is so at every site"):
        server(parties, make, **settings).run()


@pytest.mark.slow
def test_a_validation_of_more_images_than_before_is_refused() -> None:
    make, settings = CASES["epochs"]
    parties = engine(make, **settings)
    asked = []
    # Without sums, which say the number of images too.
    parties.tamper(
        "validate",
        "site-3",
        lambda answer: asked.append(1) or answer.update(images=4 + len(asked), sums=[]),  # type: ignore[func-returns-value]
    )
    with pytest.raises(InputError, match=r"site 'site-3' is refused: it has 6 validation records, and had 5 before"):
        server(parties, make, **settings).run()
