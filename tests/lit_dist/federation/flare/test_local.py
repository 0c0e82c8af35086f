"""A FLARE system of this machine: its settings, and the end of its processes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from lit_dist import InputError

pytest.importorskip("nvflare")
import psutil

from lit_dist.federation.flare.local import LocalSystem


def provisioned(monkeypatch: pytest.MonkeyPatch, *sites: str) -> Path:
    """A folder that has the startup kits of a server and some sites, in which no process is started."""
    monkeypatch.setattr(LocalSystem, "start", lambda self, name: None)
    kits = LocalSystem(Path("system"), {}).kits
    for name in ("server", *sites):
        (kits / name / "local").mkdir(parents=True)
    return kits


def test_a_folder_that_is_used_again_has_the_new_settings_of_its_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    kits = provisioned(monkeypatch, "mgh")
    for root in ("first", "second"):
        with LocalSystem(Path("system"), {"mgh": {"data": root}}):
            assert yaml.safe_load((kits / "mgh/local/site.yaml").read_text()) == {"data": root}


def test_a_folder_that_was_made_for_other_sites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    provisioned(monkeypatch, "mgh")
    with pytest.raises(InputError, match="no startup kit of 'ucsf'; give another"):
        LocalSystem(Path("system"), {"mgh": {}, "ucsf": {}}).__enter__()


def test_a_process_that_ends_by_itself_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def terminate(self) -> None:
            raise psutil.NoSuchProcess(1)

        kill = terminate

    system = LocalSystem(Path("system"), {})
    ended: Any = SimpleNamespace(wait=lambda: 0)
    system._processes["server"] = ended
    monkeypatch.setattr(system, "processes", lambda name: [Gone()])
    monkeypatch.setattr(psutil, "wait_procs", lambda running, timeout: ([], running))
    system.__exit__()
