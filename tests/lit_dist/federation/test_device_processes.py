"""A site that trains in several processes: the same weights as those of a simulation with as many."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import program
from flare_federation import RUN, configuration, data_of, hashes
from lit_dist import InputError
from lit_dist.cli.federate import parse
from lit_dist.federation.build import FederatedRun, make_site
from lit_dist.federation.device_processes import DeviceProcesses
from lit_dist.federation.roster import Roster
from lit_dist.federation.site_settings import SiteSettings
from lit_dist.federation.wire import pack, unpack
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.verify import verify
from small_federation import InProcess, one_that_refuses

TWO = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
SITES = ["site-1", "site-2"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def settings() -> dict[str, Any]:
    configuration(Path(RUN))
    return parse(["--config", RUN])


@pytest.fixture
def ended() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def crew(site: str, settings: dict[str, Any], ended: ExitStack, **own: Any) -> DeviceProcesses:
    made = make_site(site, settings, SiteSettings(**{"data": data_of(site), "trainer": TWO, **own}), Path(site))
    assert isinstance(made, DeviceProcesses)
    ended.callback(made.close)
    return made


def test_visits_of_several_processes_are_those_of_the_simulation(settings: dict[str, Any], ended: ExitStack) -> None:
    words = [f"--trainer.{name}={value}" for name, value in TWO.items()]
    done = program.run("fit", "--config", RUN, *words)
    simulated = Path("runs/simulated/version_0")
    assert hashes(simulated), done.stderr
    crews = {site: crew(site, settings, ended) for site in SITES}
    engine = InProcess(crews)

    def die(question: str, site: str, answer: list[bytes]) -> list[bytes]:
        if question == "validate" and engine.asked.count("validate") == 1:  # the next visit is made by new processes
            crews[site].close()
        return answer

    engine.change = die
    folder = FederatedRun(settings, Roster(engine, SITES), Path("server"), resume=False).make()
    assert hashes(folder) == hashes(simulated)
    ours, theirs = (read_entries(run / "ledger.jsonl") for run in (folder, simulated))
    assert [(entry.images, entry.steps) for entry in ours] == [(entry.images, entry.steps) for entry in theirs]
    losses = [[each.metrics["val_loss"] for each in run if "val_loss" in each.metrics] for run in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert len(losses[0]) == 2
    assert "chain is whole" in verify(folder)


def test_a_site_that_refuses_says_why(settings: dict[str, Any], ended: ExitStack) -> None:
    party = crew("site-1", settings, ended, min_images=1000)
    assert "takes part with 1000" in unpack(party.answer("greet", pack({})))["refused"]


def test_a_process_that_waits_for_one_that_has_refused_is_ended(
    settings: dict[str, Any], ended: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_dist.federation.device_processes._GRACE", 1)
    party = DeviceProcesses(one_that_refuses, 2)
    ended.callback(party.close)
    assert unpack(party.answer("greet", pack({})))["refused"] == "the second one cannot"
    assert not party._members


def test_a_process_that_dies_is_no_answer_and_no_hang(settings: dict[str, Any], ended: ExitStack) -> None:
    party = crew("site-1", settings, ended)
    before = unpack(party.answer("greet", pack({})))
    process, _ = party._members[1]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="of this site has died"):
        party.answer("greet", pack({}))
    assert unpack(party.answer("greet", pack({}))) == before


def test_several_machines_are_refused(settings: dict[str, Any]) -> None:
    own = SiteSettings(data=data_of("site-1"), trainer={**TWO, "num_nodes": 2})
    with pytest.raises(InputError, match="a site trains on one: num_nodes: 1"):
        make_site("site-1", settings, own, Path("site"))
