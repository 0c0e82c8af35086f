"""Law 6 of the design: simulated equals deployed, bit for bit, where each site has only its own images."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision

from lit_dist import InputError, SafetensorsCheckpointIO, read_checkpoint
from lit_dist.callbacks import (
    CyclicalWeightTransfer,
    RunCheckpoint,
    SingleWeightTransfer,
    SiteEvaluation,
    WeightTransfer,
)
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation import travelling_state, wire
from lit_dist.federation.engine import NoAnswerError
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.verify import verify
from small_federation import SITES, InProcess, engine, federated, kill_at, server, simulate

CYCLE: dict[str, Any] = {"every_n_epochs": 1, "validation": "cycle"}
CASES: dict[str, tuple[Callable[[], WeightTransfer], dict[str, Any]]] = {
    "epochs": (lambda: CyclicalWeightTransfer(**CYCLE), {}),
    "steps": (lambda: CyclicalWeightTransfer(every_n_steps=3), {"max_epochs": 2}),
    "several passes a visit": (
        lambda: CyclicalWeightTransfer(every_n_steps=6, optimizer_state="local"),
        {"max_epochs": 2},
    ),
    "shuffled": (lambda: CyclicalWeightTransfer(**CYCLE, order="shuffled"), {"max_epochs": 9}),
    "carry": (lambda: CyclicalWeightTransfer(**CYCLE, optimizer_state="carry"), {}),
    "local": (lambda: CyclicalWeightTransfer(**CYCLE, optimizer_state="local"), {"max_epochs": 9}),
    "validated within a visit": (lambda: CyclicalWeightTransfer(every_n_epochs=2), {"max_epochs": 8}),
    "validated within, carry": (
        lambda: CyclicalWeightTransfer(every_n_epochs=2, optimizer_state="carry"),
        {"max_epochs": 4},
    ),
    "validated within, local": (
        lambda: CyclicalWeightTransfer(every_n_epochs=2, optimizer_state="local"),
        {"max_epochs": 8},
    ),
    "validated within an epoch": (
        lambda: CyclicalWeightTransfer(every_n_epochs=1),
        {"max_epochs": 3, "val_check_interval": 0.5},
    ),
    "ends within a cycle": (
        lambda: CyclicalWeightTransfer(every_n_epochs=1),
        {"max_epochs": 4, "limit_val_batches": 0},
    ),
    "ends within a visit": (
        lambda: CyclicalWeightTransfer(every_n_epochs=2),
        {"max_epochs": 5, "limit_val_batches": 0},
    ),
    "gradients accumulated": (
        lambda: CyclicalWeightTransfer(every_n_steps=3, order="shuffled", optimizer_state="carry"),
        {"max_epochs": 2, "accumulate_grad_batches": 2},
    ),
    "mixed precision": (lambda: CyclicalWeightTransfer(**CYCLE), {"precision": "bf16-mixed", "max_epochs": 3}),
    "single weight transfer": (lambda: SingleWeightTransfer(patience=1, max_epochs_per_site=3), {"max_epochs": 12}),
    "plateau of the site alone": (
        lambda: SingleWeightTransfer("val_loss/{site}", patience=1, max_epochs_per_site=3, optimizer_state="carry"),
        {"max_epochs": 12},
    ),
}
QUICK = ["epochs", "steps"]
PAIRS = ["validated within, carry", "shuffled"]
"""What other cases have each by itself."""


def marked(case: str) -> Any:
    return pytest.param(case, marks=[pytest.mark.slow] * (case not in QUICK) + [pytest.mark.long] * (case in PAIRS))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Entry]]:
    """The entries of each case's simulation, made once."""

    @cache
    def made(case: str) -> list[Entry]:
        make, settings = CASES[case]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.mktemp("simulated"))
            return simulate(make, **settings)

    return made


def facts(entries: list[Entry]) -> list[tuple[Any, ...]]:
    names = ("visit", "cycle", "site", "outcome", "images", "steps", "sha256_in", "sha256_out", "settings", "bytes")
    return [tuple(getattr(entry, name) for name in names) for entry in entries]


def losses(entries: list[Entry]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.metrics.items() if "val_loss" in name} for entry in entries]


@pytest.mark.slow
@pytest.mark.parametrize("case", list(map(marked, CASES)))
def test_each_visit_equals_that_of_the_simulation(case: str, simulated: Callable[[str], list[Entry]]) -> None:
    make, settings = CASES[case]
    parties = engine(make, **settings)
    run = server(parties, make, **settings)
    run.run()
    assert facts(federated()) == facts(simulated(case))
    assert losses(federated()) == losses(simulated(case))
    assert fingerprint(run.module.state_dict())[0] == simulated(case)[-1].sha256_out
    assert "chain is whole" in verify("server")


def scaled() -> dict[str, Any]:
    """As 16-mixed is on a GPU; on a CPU Lightning makes bf16-mixed of it."""
    scaler = torch.amp.GradScaler("cpu", growth_interval=2)
    return {"plugins": [SafetensorsCheckpointIO(), MixedPrecision("16-mixed", "cpu", scaler)]}


def scaling(make: Callable[[], WeightTransfer], **settings: Any) -> InProcess:
    """Sites that scale their gradients, each by itself."""
    return InProcess({site: engine(make, **scaled(), **settings).parties[site] for site in SITES})


@pytest.mark.slow
def test_sites_scale_their_gradients_where_the_server_cannot() -> None:
    make, settings = CASES["steps"]
    simulated = simulate(make, **scaled(), **settings)
    parties = scaling(make, **settings)
    kill_at(parties, 5)
    with pytest.raises(KeyboardInterrupt):
        server(parties, make, precision="bf16-mixed", **settings).run()
    newest = newest_checkpoint("server")
    assert newest is not None
    assert read_checkpoint(newest)["MixedPrecision"]["scale"] != 2**16
    server(parties, make, precision="bf16-mixed", **settings).run(newest)
    assert facts(federated()) == facts(simulated)


@pytest.mark.slow
def test_a_run_that_is_made_longer_resumes_with_the_scale_of_the_gradients() -> None:
    make, settings = CASES["steps"]
    simulated = simulate(make, **scaled(), **settings)
    given: dict[str, Any] = {"precision": "bf16-mixed", "enable_checkpointing": True}
    for epochs in (1, 2):
        newest = newest_checkpoint("server") if epochs > 1 else None
        server(scaling(make, max_epochs=epochs), make, RunCheckpoint(), max_epochs=epochs, **given).run(newest)
    assert facts(federated()) == facts(simulated)


@pytest.mark.slow
def test_law_6_broken_by_a_site_that_keeps_its_dropout_is_noticed(
    monkeypatch: pytest.MonkeyPatch, simulated: Callable[[str], list[Entry]]
) -> None:
    make, settings = CASES["steps"]
    unbroken = simulated("steps")
    monkeypatch.setattr("lit_dist.visits.visit_batches.pass_seed", lambda seed, visit, number: seed)
    server(engine(make, **settings), make, **settings).run()
    assert facts(federated()) != facts(unbroken)


@pytest.mark.slow
def test_early_stopping_and_the_best_model_are_those_of_the_simulation() -> None:
    def callbacks(folder: str) -> list[Any]:
        best = ModelCheckpoint(
            dirpath=f"{folder}/best", monitor="val_loss", filename="best", enable_version_counter=False
        )
        return [EarlyStopping("val_loss", patience=1), best]

    make, _ = CASES["epochs"]
    settings = {"max_epochs": 30, "enable_checkpointing": True}
    simulated = simulate(make, *callbacks("simulated"), **settings)
    parties = engine(make, max_epochs=30)
    server(parties, make, *callbacks("server"), **settings).run()
    assert facts(federated()) == facts(simulated)
    assert len(simulated) < 30
    best = [read_checkpoint(f"{folder}/best/best.ckpt")["state_dict"] for folder in ("simulated", "server")]
    assert fingerprint(best[0]) == fingerprint(best[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["local", pytest.param("validated within a visit", marks=pytest.mark.long), "single weight transfer"]
)
def test_a_federation_that_is_killed_again_and_again_equals_one_that_is_not(
    case: str, simulated: Callable[[str], list[Entry]]
) -> None:
    class Killed(Exception):
        pass

    make, settings = CASES[case]
    questions = 0
    for dies_at in (3, 5, 6, 8, 11, 1000):  # of the server, after it has asked, and of all sites with it
        parties = engine(make, **settings)

        def change(question: str, site: str, answer: wire.Message, dies_at: int = dies_at) -> wire.Message:
            nonlocal questions
            questions += 1
            if questions % dies_at == 0 and question not in ("greet", "settings"):
                raise Killed
            return answer

        parties.change = change
        try:
            server(parties, make, **settings).run(newest_checkpoint("server") if Path("server").exists() else None)
        except Killed:
            continue
        break
    assert facts(federated()) == facts(simulated(case))
    assert "chain is whole" in verify("server")


LONGER: dict[str, Callable[[], WeightTransfer]] = {
    "reset": lambda: CyclicalWeightTransfer(every_n_epochs=2),
    "carry": lambda: CyclicalWeightTransfer(every_n_epochs=2, optimizer_state="carry"),
    "local": lambda: CyclicalWeightTransfer(every_n_epochs=2, optimizer_state="local"),
    "single weight transfer": lambda: SingleWeightTransfer(patience=5, max_epochs_per_site=4),
}


def longer(case: str) -> Any:
    """A case beside the quickest; ``local`` differs from ``carry`` in where the state lies, which others try."""
    return pytest.param(case, marks=pytest.mark.long if case == "local" else pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["reset", *(longer(case) for case in list(LONGER)[1:])])
def test_a_run_that_ended_within_a_visit_is_made_longer_as_the_simulation_is(case: str) -> None:
    make, checkpointing = LONGER[case], {"enable_checkpointing": True}
    for number in (5, 7):
        kept = newest_checkpoint("simulated") if Path("simulated").exists() else None
        simulated = simulate(make, RunCheckpoint(), checkpoint=kept, max_epochs=number, **checkpointing)
        kept = newest_checkpoint("server") if Path("server").exists() else None
        parties = engine(make, max_epochs=number)
        run = server(parties, make, RunCheckpoint(), max_epochs=number, **checkpointing)
        run.run(kept)
    assert [entry.outcome for entry in simulated].count("cut short") == 2
    assert facts(federated()) == facts(simulated)
    assert losses(federated()) == losses(simulated)
    assert fingerprint(run.module.state_dict())[0] == simulated[-1].sha256_out
    assert "chain is whole" in verify("server")
    assert simulated[-1].sha256_out == simulate(make, max_epochs=7)[-1].sha256_out


@pytest.mark.slow
@pytest.mark.parametrize("visit", [0, 1])
def test_a_server_that_is_killed_between_the_ledgers_line_and_the_state_repeats_the_visit(
    visit: int, monkeypatch: pytest.MonkeyPatch, simulated: Callable[[str], list[Entry]]
) -> None:
    make, settings = CASES["steps"]

    def join(*args: Any) -> Any:
        if len(federated()) > visit:
            raise KeyboardInterrupt
        return travelling_state.join(*args)

    with monkeypatch.context() as patch:
        patch.setattr("lit_dist.federation.server.join", join)
        with pytest.raises(KeyboardInterrupt):
            server(engine(make, **settings), make, **settings).run()
    assert len(federated()) == visit + 1
    server(engine(make, **settings), make, **settings).run(newest_checkpoint("server"))
    assert facts(federated()) == facts(simulated("steps"))
    assert "chain is whole" in verify("server")


@pytest.mark.slow
def test_a_visit_outlasts_a_validation_that_fails() -> None:
    make, settings = CASES["epochs"]
    settings = {**settings, "enable_checkpointing": True}
    simulated = simulate(make, RunCheckpoint(), **settings)
    parties = engine(make)
    parties.silent = lambda question, site: (question, site) == ("validate", "site-2")
    logger = CSVLogger("server", name="", version="")
    with pytest.raises(NoAnswerError, match="site-2"):
        server(parties, make, RunCheckpoint(), logger=logger, **settings).run()
    newest = newest_checkpoint("server")
    assert newest is not None
    assert read_checkpoint(newest)["logs"]["rows"] == [len(pd.read_csv("server/metrics.csv"))] == [3]
    parties.silent = lambda question, site: False
    server(parties, make, RunCheckpoint(), **settings).run(newest)
    assert parties.asked.count("train") == len(simulated)
    assert facts(federated()) == facts(simulated)
    assert losses(federated()) == losses(simulated)
    assert "chain is whole" in verify("server")


@pytest.mark.slow
@pytest.mark.parametrize("every", ["visit", "cycle"])
def test_site_evaluation_gives_the_matrix_of_the_simulation(every: Any) -> None:
    make, settings = CASES["epochs"]
    simulate(make, SiteEvaluation(every=every), **settings)
    parties = engine(make, **settings)
    run = server(parties, make, SiteEvaluation(every=every), **settings)
    run.run()
    assert Path("server/site_matrix.csv").read_text() == Path("simulated/site_matrix.csv").read_text()
    assert parties.asked.count("validate") == (6 if every == "visit" else 2)


def test_site_evaluation_is_refused_where_it_could_not_look_after_each_visit() -> None:
    def shuffled() -> WeightTransfer:
        return CyclicalWeightTransfer(**CYCLE, order="shuffled")

    with pytest.raises(InputError, match="set order to no_repeat or fixed"):
        server(engine(shuffled, max_epochs=30), shuffled, SiteEvaluation(), max_epochs=30).run()
    make, settings = CASES["epochs"]
    with pytest.raises(InputError, match="set split=val"):
        server(engine(make, **settings), make, SiteEvaluation(split="test"), **settings).run()


@pytest.mark.slow
def test_no_image_name_or_path_crosses_the_wire() -> None:
    make, settings = CASES["steps"]
    parties = engine(make, **settings)
    server(parties, make, **settings).run()
    everything = b"".join(piece for content in parties.content for piece in content)
    names = [name for party in parties.parties.values() for name in party.data.table["image"]]
    places = [str(Path.cwd()), str(Path.home()), "simulated", ".png", "/tmp"]
    assert [name for name in [*names, *places] if name.encode() in everything] == []
    for party in parties.parties.values():
        pixels = party.data.dataset([party.name], "train")[0][0]
        assert torch.as_tensor(pixels).numpy().tobytes()[:300] not in everything
    sent = [wire.unpack(content) for content in parties.content]
    assert all("optimizer_states" not in tree or not tree["optimizer_states"][0]["state"] for tree in sent)
