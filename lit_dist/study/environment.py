"""Where a run of a study was done: device, processor, precision, threads, programs."""

import json
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from lit_dist.provenance.run_settings import versions
from lit_dist.utils.atomic_write import replacing

ENVIRONMENT = "environment.json"


def write_environment(trainer: Trainer, folder: Path) -> None:
    """Write down where a fit was done, into the folder of its run."""
    device = trainer.strategy.root_device
    found = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "versions": versions(),
    }
    with replacing(folder / ENVIRONMENT) as file:
        file.write(json.dumps(found, indent=1).encode())


def read_environment(folder: Path) -> dict[str, Any]:
    """What ``write_environment`` wrote; empty where there is nothing of the kind, as in older studies."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("versions"), dict):
            return found
    return {}


def _processor() -> str:
    """The processor's name as its maker gives it, where the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
