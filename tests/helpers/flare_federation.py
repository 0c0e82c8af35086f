"""Runs of ``lit-dist federate`` on a FLARE system of this machine, and the simulation that they must equal."""

import contextlib
import copy
import io
import os
import warnings
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

import program
from lit_dist import InputError
from lit_dist.cli.federate import main
from lit_dist.provenance.ledger import read_entries

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
RUN = "run.yaml"
SAID = Path("said.txt")
OTHER = ["--config", RUN, "--trainer.logger.init_args.name", "federated"]

Hashes = list[tuple[int, str, str, str]]


def configuration(path: Path, alone: bool = False) -> None:
    """Write it; alone, each site trains a model of its own."""
    settings = copy.deepcopy(CONFIG)
    if alone:
        del settings["trainer"]["callbacks"][0]
    path.write_text(yaml.safe_dump(settings))


def data_of(site: str) -> dict[str, Any]:
    return {**CONFIG["data"], "init_args": {**CONFIG["data"]["init_args"], "only_site": site}}


def hashes(folder: Path) -> Hashes:
    path = folder / "ledger.jsonl"
    entries = read_entries(path) if path.exists() else []
    return [(entry.visit, entry.site, entry.sha256_out, entry.settings) for entry in entries]


def simulate(folder: Path, *words: str) -> None:
    process = program.start(["fit", "--config", RUN, *words], folder / SAID, folder=folder)
    process.join()
    assert process.exitcode == 0, (folder / SAID).read_text()


def federate(*words: str) -> BaseProcess:
    """Start the command; what it says is in ``SAID``."""
    SAID.unlink(missing_ok=True)
    return program.start(["federate", "--local", "--folder", "system", *OTHER, *words], SAID)


def submit(*words: str) -> str:
    """What the command says; in this process, which has imported everything already."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said):
        warnings.simplefilter("ignore")  # those of the engine are not ours
        try:
            main([*words])
        except InputError as error:
            print(error)
    return said.getvalue()


def nvflare_processes(*parts: str) -> Iterator[Any]:
    """The processes of the system in this folder whose words have all of these parts."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if all(part in words for part in ("nvflare", os.getcwd(), *parts)):
            yield process
