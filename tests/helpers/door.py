"""Runs that pass a site's door, attacks on it, and a watch of what a process imports, starts, and writes."""

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lit_dist.federation.site_settings import SiteSettings

MARK = "ran-at-the-site"
COMMAND = f"touch {MARK}"
CODE = f"__import__('os').system('{COMMAND}')"
RUN: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "lit_dist.ImageClassifier",
        "init_args": {
            "backbone": "slim_resnet18",
            "num_classes": 2,
            "backbone_kwargs": {"width": 8},
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001, "betas": [0.9, 0.999]}},
            "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2}},
        },
    },
    "trainer": {
        "max_epochs": 3,
        "precision": None,
        "callbacks": [
            {"class_path": "lit_dist.callbacks.CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}},
            {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"monitor": "val_loss"}},
        ],
    },
}

ACTS = (
    *("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind"),
    *("os.remove", "os.mkdir", "os.rename", "os.chmod", "os.symlink", "shutil.rmtree", "pickle.find_class"),
)

_watched: list[str] | None = None


def _note(event: str, given: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    if event == "open":
        path, mode, _ = given
        if not isinstance(mode, str) or set("wax+") & set(mode):
            _watched.append(f"open {path} {mode}")
    elif event == "import":
        _watched.append(f"import {given[0]}")
    elif event in ACTS:
        _watched.append(f"{event} {given}")


sys.addaudithook(_note)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What is imported anew, started and written meanwhile."""
    global _watched
    before = _watched
    _watched = noted = []
    try:
        yield noted
    finally:
        _watched = before


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The run, with a change."""
    run = copy.deepcopy(RUN)
    change(run)
    return run


def own() -> SiteSettings:
    """A site's settings with the default policy."""
    arguments = {"sites": 3, "patients": 24, "size": 32, "batch_size": 5, "only_site": "site-1"}
    return SiteSettings(
        data={"class_path": "PhantomDataModule", "init_args": arguments}, trainer={"accelerator": "cpu"}
    )


def of_process() -> tuple[Any, ...]:
    """What of a process a run's settings leave as it is: its environment, but for seeds and cuBLAS, and where it is."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "CUBLAS_"))}
    return environment, Path.cwd(), [*sys.path], torch.get_default_dtype(), signal.getsignal(signal.SIGTERM)


def facts(party: Any) -> dict[str, Any]:
    """What is a site's own in a party."""
    trainer = party.trainer
    return {
        "site": party.data.only_site,
        "data": type(party.data).__name__,
        "processes": (trainer.world_size, trainer.num_nodes, trainer.num_devices),
        "device": str(trainer.strategy.root_device),
        "strategy": type(trainer.strategy).__name__,
        "folder": str(Path(trainer.default_root_dir)),
        "loggers": trainer.loggers,
        "profiler": type(trainer.profiler).__name__,
        "io": type(trainer.strategy.checkpoint_io).__name__,
    }
