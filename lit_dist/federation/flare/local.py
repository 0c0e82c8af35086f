"""A whole FLARE system on this machine: a server and sites as separate processes, with certificates, on loopback."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import psutil
import yaml
from nvflare.fuel.utils.network_utils import get_open_ports

from lit_dist.utils.atomic_write import check_file, check_folder
from lit_dist.utils.errors import InputError

ADMIN = "admin@lit.dist"
_OURS = "lit_dist.federation.flare.engine"
_LAST_WORDS = "10"  # seconds that a job that has ended waits for those of a site that has died; FLARE's are 900
_LOGS = ("site_log_streamer", "log_receiver")


class LocalSystem:
    """Provisions the system, starts it, and ends it.

    Args:
        folder: Where.
        sites: The settings of each site, as its ``site.yaml`` has them.
        server: Those of the server, as its ``server.yaml`` has them.
    """

    def __init__(
        self, folder: Path, sites: Mapping[str, dict[str, Any]], server: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.folder = folder
        self.sites = sites
        self.server = server
        self.kits = folder / "workspace" / "lit_dist" / "prod_00"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        check_folder(self.folder)
        for name in ("server", *self.sites):
            check_file(self.log(name))
        if not self.kits.exists():
            check_file(self.folder / "project.yml")
            self._provision()
        self._write_settings()
        for name in ("server", *self.sites):
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        running = [process for name in self._processes for process in self.processes(name)]
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
                process.terminate()
        for process in psutil.wait_procs(running, timeout=5)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for child in self._processes.values():
            child.wait()

    def start(self, name: str) -> None:
        """Start the process of the server or of a site, by the script of its startup kit."""
        # The kit's script takes the python3 of PATH; threads are those of this process, so that the weights are, too.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["bash", str(self.kits / name / "startup" / "sub_start.sh"), "--once"],
                cwd=self.kits / name,
                env={**os.environ, "PATH": path, "NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT": _LAST_WORDS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self, name: str) -> list[psutil.Process]:
        """The process of the server or of a site, and those that it has started for jobs."""
        try:
            process = psutil.Process(self._processes[name].pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def log(self, name: str) -> Path:
        """The file with what the process has printed."""
        return self.folder / f"{name}.log"

    def check(self, may_die: Sequence[str] = ()) -> None:
        """Raise ``InputError`` if a process has ended by itself, but for those that may die."""
        for name, process in self._processes.items():
            if process.poll() is not None and name not in may_die:
                raise InputError(f"the process of {name} has ended; see {self.log(name)}")

    def _provision(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        project = self.folder / "project.yml"
        project.write_text(yaml.safe_dump(_project(list(self.sites))))
        command = [sys.executable, "-c", "from nvflare.cli import main; main()", "provision"]
        done = subprocess.run(
            [*command, "-p", str(project), "-w", str(self.folder / "workspace")], capture_output=True, text=True
        )
        if done.returncode or not self.kits.exists():
            raise InputError(f"nvflare provision did not succeed:\n{done.stdout}{done.stderr}")
        for name in ("server", *self.sites):
            _restrict(self.kits / name, self.folder)

    def _write_settings(self) -> None:
        """Give each site and the server their settings, also those of a folder that was used before with others."""
        for name, settings in self.sites.items():
            local = self.kits / name / "local"
            if not local.is_dir():
                raise InputError(
                    f"the FLARE system in {self.folder} was made for other sites, and has no startup kit of {name!r};"
                    " give another --folder, or delete that one"
                )
            _write(local / "site.yaml", settings)
        _write(self.kits / "server" / "local" / "server.yaml", self.server)


def _write(path: Path, settings: Mapping[str, Any]) -> None:
    check_file(path)
    path.write_text(yaml.safe_dump(dict(settings)))


def _project(sites: Sequence[str]) -> dict[str, Any]:
    ports = get_open_ports(2)
    server = {"name": "server", "type": "server", "default_host": "localhost"}
    everyone: list[dict[str, Any]] = [
        {**server, "fed_learn_port": ports[0], "admin_port": ports[1]},
        *({"name": site, "type": "client"} for site in sites),
        {"name": ADMIN, "type": "admin", "role": "lead"},
    ]
    builders = [
        ("workspace.WorkspaceBuilder", {"template_file": ["master_template.yml"]}),
        ("static_file.StaticFileBuilder", {"config_folder": "config"}),
        ("cert.CertBuilder", {}),
        ("signature.SignatureBuilder", {}),
    ]
    return {
        "api_version": 3,
        "name": "lit_dist",
        "description": "One machine",
        "participants": [{**each, "org": "lit_dist"} for each in everyone],
        "builders": [{"path": f"nvflare.lighter.impl.{path}", "args": args} for path, args in builders],
    }


def _restrict(kit: Path, folder: Path) -> None:
    """Let a job name the classes of our engine only, and bring no code; let no log leave, with the paths in it."""
    local = kit / "local"
    text = (local / "resources.json.default").read_text().replace("/tmp/nvflare", str(folder / "storage"))
    resources = {**json.loads(text), "class_allow_list": [_OURS], "allow_log_streaming": False}
    resources["components"] = [each for each in resources["components"] if each["id"] not in _LOGS]
    (local / "resources.json").write_text(json.dumps(resources, indent=1))
    if (local / "authorization.json.default").exists():
        rights = json.loads((local / "authorization.json.default").read_text())
        for role in rights["permissions"].values():
            if isinstance(role, dict):
                role["byoc"] = "none"
        (local / "authorization.json").write_text(json.dumps(rights, indent=1))
