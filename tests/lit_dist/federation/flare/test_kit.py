"""``lit-dist federate --kit``: a FLARE system that runs, to which runs are submitted; and who does not belong to it."""

import json
import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flare_federation import RUN, Hashes, configuration, data_of, nvflare_processes, simulate, submit
from lit_dist import read_checkpoint
from lit_dist.checkpoints.baton import fingerprint

RUNS = Path("system/workspace/lit_dist/prod_00/server/runs/runs")
SHORTER = ["--trainer.max_epochs", "3"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_runs_are_submitted_to_a_system_that_lets_no_stranger_in(simulated: Hashes) -> None:
    from lit_dist.federation.flare.local import ADMIN, LocalSystem

    configuration(Path(RUN))
    other = LocalSystem(Path("other").absolute(), {"site-1": {}, "site-2": {}})
    other._provision()
    own: dict[str, Any] = {site: {"data": data_of(site), "metrics": "all"} for site in ("site-1", "site-2")}
    own["site-2"]["max_epochs"] = 3
    with LocalSystem(Path("system").absolute(), own) as system:
        words = ["--kit", str(system.kits / ADMIN), "--sites", "site-1,site-2", "--config", RUN]
        wait_for_both(words)
        strangers(system, other)
        refused = submit(*words)
        assert "site 'site-2' refuses: its site.yaml allows 3 epochs, and the run has 4" in refused
        accepted = submit(*words, *SHORTER)
        missing = submit(*words[:2], "--sites", "site-1,site-9", *words[4:])
        assert "no site 'site-9' is connected to the server; there are site-1, site-2" in missing
        alone(words)
        other.__exit__()
    assert simulated[2][2] in accepted
    log = Path("system/server.log").read_text()
    assert "authenticated as 'site-1' but claimed endpoint 'site-9'" in log
    assert not list(nvflare_processes())


def wait_for_both(words: list[str]) -> None:
    end = time.monotonic() + 120
    while "there are site-1, site-2" not in (said := submit(*words[:2], "--sites", "none", *words[4:])):
        assert time.monotonic() < end, said


def strangers(system: Any, other: Any) -> None:
    """Start a site of another federation, and one under a name that is not its own; and come without a certificate."""
    target = settings_of(system.kits / "site-1")["servers"][0]["service"]["target"]
    settings = settings_of(other.kits / "site-2")
    settings["servers"][0]["service"]["target"] = target
    write(other.kits / "site-2", settings)
    other.start("site-2")
    false = system.kits / "site-9"
    shutil.copytree(system.kits / "site-1", false, ignore=shutil.ignore_patterns("*.fl", "lit-dist"))
    settings = settings_of(false)
    settings["client"]["fqsn"] = "site-9"
    write(false, settings)
    for name in ("start.sh", "sub_start.sh"):
        script = false / "startup" / name
        script.write_text(script.read_text().replace("site-1", "site-9"))
    system.start("site-9")
    startup = system.kits / "site-1" / "startup"
    assert said_by(target, startup, certificate=True).startswith(b"HTTP/1.1 ")
    assert said_by(target, startup, certificate=False) == b""


def settings_of(kit: Path) -> Any:
    return json.loads((kit / "startup" / "fed_client.json").read_text())


def write(kit: Path, settings: Any) -> None:
    (kit / "startup" / "fed_client.json").write_text(json.dumps(settings))


def said_by(target: str, startup: Path, certificate: bool) -> bytes:
    """What the server says to who comes with, or without, a certificate."""
    context = ssl.create_default_context(cafile=str(startup / "rootCA.pem"))
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(startup / "client.crt", startup / "client.key")
    host, port = target.split(":")
    try:
        with context.wrap_socket(socket.create_connection((host, int(port)), 10)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: server\r\n\r\n")
            return connection.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""


def alone(words: list[str]) -> None:
    """An ensemble, whose members are those of fits at each site."""
    configuration(Path(RUN), alone=True)
    for number in (1, 2):
        simulate(Path(), "--trainer.logger.init_args.name=alone", f"--data.only_site=site-{number}", *SHORTER)
    said = submit(*words, *SHORTER, "--trainer.logger.init_args.name=ensemble")
    for number in (1, 2):
        model = read_checkpoint(f"runs/alone/version_{number - 1}/checkpoints/best.ckpt")["state_dict"]
        federated = read_checkpoint(RUNS / f"ensemble/version_0/checkpoints/site-{number}.ckpt")["state_dict"]
        assert fingerprint(federated) == fingerprint(model)
        assert f"SHA-256 of the model of site-{number}: {fingerprint(model)[0]}" in said
    table = pd.read_csv(RUNS / "ensemble/version_0/cross_site.csv")
    assert len(table) == 3 * 3 * 2  # (site-1, site-2, ensemble) at (site-1, site-2, all sites), validation and test
