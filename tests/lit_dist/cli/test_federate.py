"""``lit-dist federate --local``: real processes, certificates and sockets; the same weights as the simulation's."""

import time
import warnings
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import wandb_reader

from flare_federation import RUN, SAID, Hashes, configuration, federate, hashes, nvflare_processes
from lit_dist import InputError
from lit_dist.cli.federate import main, parse
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.verify import verify
from lit_dist.utils.extras import MissingExtraError

FEDERATED = Path("runs/federated/version_0")


@pytest.fixture(autouse=True)
def _configuration() -> None:
    configuration(Path(RUN))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.utils.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "lit_dist\[nvflare\]"'):
        main(["--local", "--config", RUN])


def test_the_settings_are_those_of_fit() -> None:
    settings = parse(["--config", RUN, "--trainer.max_epochs", "7"])
    assert settings["trainer"]["max_epochs"] == 7
    assert settings["model"]["init_args"]["backbone"] == "shufflenet_v2_x0_5"
    assert settings["trainer"]["callbacks"][0]["init_args"]["optimizer_state"] == "reset"


@pytest.mark.parametrize("names", ["a,a", "a,", "../x,b", "a b,c", "server,b", "x" * 65])
def test_sites_that_can_have_no_startup_kit_are_refused(names: str) -> None:
    with pytest.raises(InputError, match="a site of a federation cannot be called"):
        main(["--kit", ".", "--sites", names, "--config", RUN])


@pytest.mark.parametrize(
    "name", ["ckpt_path", "checkpoint.keep", "checkpoint.every_n_steps", "trainer.default_root_dir"]
)
def test_options_that_a_federation_does_not_obey_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"--{name} is not for a federation"):
        parse(["--config", RUN, f"--{name}", "best" if name == "ckpt_path" else "7"])


@pytest.mark.parametrize(
    ("silent", "given_to"),
    [
        (["site-2", "site-2"], [["site-1", "site-2"], ["site-1", "site-2"], ["site-1"]]),
        (["site-2", "site-1"], [["site-1", "site-2"], ["site-1", "site-2"]]),
    ],
    ids=["the same each time", "now one, now another"],
)
def test_a_site_whose_job_dies_again_and_again_is_left_out_by_policy(
    silent: list[str], given_to: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nvflare")
    reports: list[dict[str, Any]] = [{"error": "it died", "again": True, "silent": [site]} for site in silent]
    jobs: list[list[str]] = []
    flare = "lit_dist.federation.flare"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the engine are not ours
        from lit_dist.federation.flare.retry import RunOptions, make_run
    monkeypatch.setattr(f"{flare}.session.connected", lambda *_: ["site-1", "site-2"])
    monkeypatch.setattr(f"{flare}.engine.write_job", lambda job, settings, sites, there, server: jobs.append(there))
    monkeypatch.setattr(f"{flare}.session.make_job", lambda *_: reports.pop(0) if reports else {"run": "made"})
    options = RunOptions(absent="skip", retries=1, resume=False, timeout=1, local=True, weights="images")
    report = make_run(None, Path(), {"trainer": {"logger": False}}, ["site-1", "site-2"], options, lambda: None)
    assert jobs == given_to
    assert ("run" in report) == (len(given_to) == 3)


def test_a_server_that_is_busy_is_asked_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nvflare")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the engine are not ours
        from nvflare.fuel.flare_api.api_spec import NoConnection

        from lit_dist.federation.flare import session as flare

    class Busy:
        asked = 0

        def submit_job(self, job: str) -> str:
            return "7"

        def get_job_meta(self, number: str) -> dict[str, str]:
            self.asked += 1
            if self.asked % 3:
                raise NoConnection("busy")
            return {"status": "FINISHED:COMPLETED" if self.asked > 5 else "RUNNING"}

        def download_job_result(self, number: str, folder: str) -> str:
            Path(folder).mkdir()
            (Path(folder) / flare.REPORT).write_text('{"run": "made"}')
            return folder

    monkeypatch.setattr("time.sleep", lambda _: None)
    session: Any = Busy()
    assert flare.make_job(session, Path("job")) == {"run": "made"}
    assert session.asked == 6
    monkeypatch.setattr(flare, "_PATIENCE", -1)
    with pytest.raises(InputError, match=r"gives no answer; job 7 may continue without .*busy"):
        flare.make_job(session, Path("job"))


def test_what_a_server_receives_is_not_worded_for_the_log() -> None:
    pytest.importorskip("nvflare")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the engine are not ours
        from nvflare.fuel.f3.streaming.blob_streamer import BlobStream, BlobTask
        from nvflare.fuel.f3.streaming.stream_types import StreamFuture

        import lit_dist.federation.flare.engine  # noqa: F401  # it sees to that
    content = bytes(2**20)
    received = BlobTask(StreamFuture(1), BlobStream(content, None), preserve_chunks=True).buffer
    received.append(content)
    assert f"incoming data={received}" == "incoming data=1 pieces"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_with_certificates_give_the_weights_of_the_simulation(
    simulated: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = federate("--trainer.logger+=WandbLogger", "--trainer.logger.save_dir=tracked")
    said = end(done)
    assert hashes(FEDERATED) == simulated
    assert simulated[-1][2] in said
    assert "chain is whole" in verify(FEDERATED)
    assert (FEDERATED / "checkpoints/best.ckpt").is_file()
    assert not list(nvflare_processes())
    [path] = Path("tracked/wandb").glob("offline-run-*/*.wandb")
    rows = wandb_reader.history(path)
    visits = [row for row in rows if "visit" in row]
    assert [(row["visit"], row["cycle"], row["site"]) for row in visits] == [(n, n // 2, n % 2) for n in range(4)]
    assert all("train_loss" in row for row in visits)
    assert sum("val_loss" in row and "val_loss/site-2" in row for row in rows) == 2
    assert wandb_reader.config(path)["sites"] == {"0": "site-1", "1": "site-2"}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_whose_processes_are_killed_resumes_and_gives_the_same_weights(simulated: Hashes) -> None:
    running = federate()
    kill_after(1, running, "/site-2", "worker_process")
    kill_after(3, running, "/server", "runner_process")
    said = end(running)
    assert said.count("; resuming (attempt ") == 2
    assert hashes(FEDERATED) == simulated
    assert "chain is whole" in verify(FEDERATED)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_whose_site_and_then_whose_server_is_killed_whole_is_resumed(simulated: Hashes) -> None:
    for visits, name, parent in ((1, "site-2", "client_train"), (3, "server", "server_train")):
        running = federate(*(["--resume"] if visits > 1 else []))
        kill_after(visits, running, f"/{name}", parent)
        said = end(running, well=False)
        assert f"the process of {name} has ended" in said
    done = federate("--resume")
    said = end(done)
    assert hashes(FEDERATED) == simulated
    assert "chain is whole" in verify(FEDERATED)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_visits_of_a_site_that_has_died_are_left_out_by_policy() -> None:
    pytest.importorskip("nvflare")
    running = federate("--absent", "skip", "--timeout", "10")
    kill_after(1, running, "/site-2")
    said = end(running)
    entries = read_entries(FEDERATED / "ledger.jsonl")
    assert [entry.outcome for entry in entries if entry.site == "site-1"] == ["trained"] * 2
    assert entries[-1].outcome == "absent"
    assert "Warning: visit 3 at 'site-2' was left out: it gave no answer" in said
    assert "visit 3 at 'site-2' (absent)" in verify(FEDERATED)
    assert "site 'site-2' gave no answer to" in Path("system/server.log").read_text()
    assert not list(nvflare_processes())


def end(running: BaseProcess, well: bool = True) -> str:
    """Wait for the end of a command, and give what it said."""
    running.join()
    said = SAID.read_text()
    assert (running.exitcode == 0) == well, said
    return said


def kill_after(visits: int, running: BaseProcess, *parts: str) -> None:
    """Kill a party's processes, as soon as the ledger has so many visits."""
    killed: list[Any] = []
    while running.is_alive() and not killed:
        if len(hashes(FEDERATED)) >= visits:
            killed = list(nvflare_processes(*parts))
        time.sleep(0.05)
    for process in killed:
        process.kill()
    assert killed
