"""``lit-dist federate --local``: real processes, certificates and sockets; the same weights as the simulation's."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_dist import InputError, read_checkpoint
from lit_dist.baton import fingerprint
from lit_dist.federation.federate import main, parse
from lit_dist.ledger import read_entries
from lit_dist.verify import verify

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "ImageClassifier",
        "init_args": {"backbone": "shufflenet_v2_x0_5", "num_classes": 2, "dropout": 0.2},
    },
    "data": {
        "class_path": "PhantomDataModule",
        "init_args": {"sites": 2, "patients": 24, "size": 32, "batch_size": 5},
    },
    "trainer": {
        "max_epochs": 4,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "logger": [{"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "simulated"}}],
        "callbacks": [
            {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1, "validation": "cycle"}},
            {
                "class_path": "ModelCheckpoint",
                "init_args": {"monitor": "val_loss", "filename": "best", "enable_version_counter": False},
            },
        ],
    },
}
OTHER = ["--config", "run.yaml", "--trainer.logger.init_args.name", "federated"]


@pytest.fixture(autouse=True)
def _configuration() -> None:
    Path("run.yaml").write_text(yaml.safe_dump(CONFIG))


def hashes(name: str) -> list[tuple[int, str, str, str]]:
    path = Path("runs", name, "version_0", "ledger.jsonl")
    entries = read_entries(path) if path.exists() else []
    return [(entry.visit, entry.site, entry.sha256_out, entry.settings) for entry in entries]


def simulate(*words: str) -> None:
    command = [sys.executable, "-m", "lit_dist", "fit", "--config", "run.yaml", *words]
    subprocess.run(command, check=True, capture_output=True)


def federate(*words: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-m", "lit_dist", "federate", "--local", "--folder", "system", *OTHER, *words]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.federation.federate.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install lit_dist\[nvflare\]"):
        main(["--local", "--config", "run.yaml"])


def test_the_settings_are_those_of_fit() -> None:
    settings = parse(["--config", "run.yaml", "--trainer.max_epochs", "7"])
    assert settings["trainer"]["max_epochs"] == 7
    assert settings["model"]["init_args"]["backbone"] == "shufflenet_v2_x0_5"
    assert settings["trainer"]["callbacks"][0]["init_args"]["optimizer_state"] == "reset"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_with_certificates_give_the_weights_of_the_simulation() -> None:
    pytest.importorskip("nvflare")
    simulate()
    done = federate()
    said, _ = done.communicate()
    assert done.returncode == 0, said
    assert hashes("federated") == hashes("simulated")
    assert hashes("federated")[-1][2] in said
    assert "chain is whole" in verify("runs/federated/version_0")
    assert Path("runs/federated/version_0/checkpoints/best.ckpt").is_file()
    assert not list(nvflare_processes())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("who", ["site-2", "server"])
def test_a_run_whose_process_is_killed_goes_on_and_gives_the_same_weights(who: str) -> None:
    pytest.importorskip("nvflare")
    simulate()
    running = federate()
    while running.poll() is None and not hashes("federated"):
        time.sleep(0.05)
    killed = [process for process in nvflare_processes() if is_job_of(process, who)]
    for process in killed:
        process.kill()
    said, _ = running.communicate()
    assert killed
    assert running.returncode == 0, said
    assert "going on" in said
    assert hashes("federated") == hashes("simulated")
    assert "chain is whole" in verify("runs/federated/version_0")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_is_submitted_to_a_system_that_runs_and_each_site_decides_whether_it_takes_part() -> None:
    pytest.importorskip("nvflare")
    from lit_dist.federation.local import ADMIN, LocalSystem

    simulate()
    arguments = CONFIG["data"]["init_args"]
    own = {
        f"site-{number}": {"data": {**CONFIG["data"], "init_args": {**arguments, "only_site": f"site-{number}"}}}
        for number in (1, 2)
    }
    own["site-2"]["max_epochs"] = 3
    with LocalSystem(Path("system").absolute(), own) as system:
        words = ["--kit", str(system.kits / ADMIN), "--sites", "site-1,site-2", "--config", "run.yaml"]
        refused = submit(*words)
        assert "site 'site-2' refuses: its site.yaml allows 3 epochs, and the run has 4" in refused
        assert "no site 'site-9'" in submit(*words[:2], "--sites", "site-1,site-9", *words[4:])
        accepted = submit(*words, "--trainer.max_epochs", "3")
    assert [each[:3] for each in hashes("simulated")][2][2] in accepted
    assert not list(nvflare_processes())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_site_with_another_federations_certificate_is_not_let_in() -> None:
    pytest.importorskip("nvflare")
    from lit_dist.federation.local import ADMIN, LocalSystem

    other = LocalSystem(Path("other").absolute(), {"site-1": {}, "site-2": {}})
    other._provision()
    with LocalSystem(Path("system").absolute(), {"site-1": {}}) as system:
        kits = [each.kits / "site-1" / "startup" / "fed_client.json" for each in (system, other)]
        target = json.loads(kits[0].read_text())["servers"][0]["service"]["target"]
        stranger = other.kits / "site-2" / "startup" / "fed_client.json"
        settings = json.loads(stranger.read_text())
        settings["servers"][0]["service"]["target"] = target
        stranger.write_text(json.dumps(settings))
        other.start("site-2")
        words = ["--kit", str(system.kits / ADMIN), "--sites", "site-2", "--config", "run.yaml"]
        end = time.monotonic() + 120
        while "there are site-1" not in (said := submit(*words)):
            assert time.monotonic() < end, said
        time.sleep(10)  # as long as the stranger may need
        said = submit(*words)
        other.__exit__()
    assert "no site 'site-2' is connected to the server; there are site-1" in said
    assert "certificate" in other.log("site-2").read_text().lower()


def submit(*words: str) -> str:
    arguments = [sys.executable, "-m", "lit_dist", "federate", *words]
    return subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def nvflare_processes() -> Iterator[Any]:
    import psutil

    here = os.getcwd()
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "nvflare" in words and here in words:
            yield process


def is_job_of(process: Any, who: str) -> bool:
    words = " ".join(process.info["cmdline"])
    return f"/{who}" in words and ("worker_process" in words or "runner_process" in words)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_visits_of_a_site_that_has_died_are_left_out_by_policy() -> None:
    pytest.importorskip("nvflare")
    running = federate("--absent", "skip", "--timeout", "10")
    while running.poll() is None and not hashes("federated"):
        time.sleep(0.05)
    killed = [process for process in nvflare_processes() if "/site-2" in " ".join(process.info["cmdline"])]
    for process in killed:
        process.kill()
    said, _ = running.communicate()
    assert killed
    assert running.returncode == 0, said
    entries = read_entries(Path("runs/federated/version_0/ledger.jsonl"))
    assert [entry.outcome for entry in entries if entry.site == "site-1"] == ["trained"] * 2
    assert entries[-1].outcome == "absent"
    assert "Warning: visit 3 at 'site-2' was left out: it gave no answer" in said
    assert "visit 3 at 'site-2' (absent)" in verify("runs/federated/version_0")
    assert "site 'site-2' gave no answer to" in Path("system/server.log").read_text()
    assert not list(nvflare_processes())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_models_of_an_ensemble_are_those_of_fits_at_each_site() -> None:
    pytest.importorskip("nvflare")
    best = {"monitor": "val_loss", "filename": "best", "enable_version_counter": False}
    callbacks = [{"class_path": "ModelCheckpoint", "init_args": best}]
    data = {**CONFIG["data"], "init_args": {**CONFIG["data"]["init_args"], "only_site": "site-1"}}
    settings = {**CONFIG, "data": data, "trainer": {**CONFIG["trainer"], "callbacks": callbacks}}
    Path("run.yaml").write_text(yaml.safe_dump(settings))
    simulate()
    simulate("--data.only_site", "site-2")
    said, _ = (done := federate()).communicate()
    assert done.returncode == 0, said
    for number in (1, 2):
        alone = read_checkpoint(f"runs/simulated/version_{number - 1}/checkpoints/best.ckpt")["state_dict"]
        federated = read_checkpoint(f"runs/federated/version_0/checkpoints/site-{number}.ckpt")["state_dict"]
        assert fingerprint(federated) == fingerprint(alone)
        assert f"SHA-256 of the model of site-{number}: {fingerprint(alone)[0]}" in said
    lines = Path("runs/federated/version_0/cross_site.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 3 * 2  # (site-1, site-2, ensemble) at (site-1, site-2, all sites)
