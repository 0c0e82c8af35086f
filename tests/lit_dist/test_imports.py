"""What is imported when: each library where it is used, each module under its real name, and nothing from the network.

One process imports more and more, and tells after each step what has been imported by then.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INNERMOST = [
    *("visits.itinerary", "visits.plateau_plan", "visits.seeding"),
    *("checkpoints.baton", "provenance.ledger", "provenance.audit"),
]
COMMANDS = "import lit_dist.cli.main; lit_dist.cli.main.main"
LATE = {"wandb", "albumentations", "pydicom", "gdcm", "sklearn"}
STEPS: dict[str, tuple[str, set[str]]] = {
    "the package": ("import lit_dist", {"torch", "lightning", "pandas", "albumentations"}),
    "its version": (f"{COMMANDS}(['--version'])", {"torch", "lightning", "pandas"}),
    "torch": ("import torch", {"lightning"}),
    **{name: (f"import lit_dist.{name}", {"lightning"}) for name in INNERMOST},
    "verify": (f"import lit_dist.cli.verify; {COMMANDS}(['verify', '.'])", {"lightning", "pandas", "wandb"}),
    "lightning": ("import lightning.pytorch", LATE),
    "callbacks": ("import lit_dist.callbacks", LATE | {"pandas", "cv2"}),
    "datamodules": ("import lit_dist.datamodules", LATE),
    "fit": ("import lit_dist.runs.lightning_cli", LATE),
    "public names": ("assert all(getattr(lit_dist, name) for name in lit_dist.__all__)", LATE),
    "an augmentation": (
        "import numpy as np; augmentation = lit_dist.datamodules.Albumentations(['HorizontalFlip']); "
        "augmentation(np.zeros((1, 8, 8, 3), np.uint8), np.array([1])); import albumentations",
        set(),
    ),
    "every module": (
        "import importlib, importlib.util, pkgutil\n"
        "for module in pkgutil.walk_packages(lit_dist.__path__, 'lit_dist.'):\n"
        "    of_extra = module.name.startswith('lit_dist.federation.flare.')\n"
        "    if not module.name.endswith('__main__') and (importlib.util.find_spec('nvflare') or not of_extra):\n"
        "        importlib.import_module(module.name)",
        {"callbacks", "datamodules", "configs"},  # twins of lit_dist.callbacks and others
    ),
}
"""What is done in turn, and what is not imported by then."""

SCRIPT = """
import contextlib, io, json, socket, sys, urllib.request
asked = []
def refuse(*args, **kwargs):
    asked.append(repr(args))
    raise OSError("there is no network")
socket.socket.connect = socket.create_connection = urllib.request.urlopen = socket.getaddrinfo = refuse
found = {}
for name, code in json.loads(sys.argv[1]).items():
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        exec(code)
    tops = sorted({module.partition(".")[0] for module in sys.modules})
    found[name] = tops
home = lit_dist.callbacks.CyclicalWeightTransfer.__module__
print(json.dumps({"steps": found, "asked": asked, "home": home}))
"""


@pytest.fixture(scope="module")
def found() -> Any:
    code = {name: code for name, (code, _) in STEPS.items()}
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(code)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_what_is_not_used_is_not_imported(step: str, found: Any) -> None:
    modules = set(found["steps"][step])
    assert "lit_dist" in modules
    assert not modules & STEPS[step][1]


def test_the_innermost_modules_know_nothing_of_lightning(found: Any) -> None:
    for name in INNERMOST:
        assert not any(module.startswith("lightning") for module in found["steps"][name]), name


def test_importing_and_augmenting_asks_nobody_for_updates(found: Any) -> None:
    assert "albumentations" in found["steps"]["an augmentation"]
    assert found["asked"] == []


def test_modules_have_their_real_names(found: Any) -> None:
    assert found["home"] == "lit_dist.callbacks.heuristics.cyclical_weight_transfer"
