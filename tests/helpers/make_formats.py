"""Makes small runs of each kind, interrupted, whose files every later release must read.

    PYTHONPATH=tests/helpers python tests/helpers/make_formats.py tests/formats/0.1

It prints the weights that each run ends with where nothing interrupts it.
"""

import copy
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

from lit_dist import ImageClassifier, newest_checkpoint, read_checkpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import delete_old_checkpoints
from lit_dist.cli.main import main
from lit_dist.federation.build import FederatedRun, make_site
from lit_dist.federation.engine import NoAnswerError
from lit_dist.federation.roster import Roster
from lit_dist.federation.site_settings import ServerSettings, SiteSettings
from lit_dist.federation.wire import Message
from lit_dist.study.execute import execute

SITES = ("site-1", "site-2")
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
MODEL: dict[str, Any] = {
    "class_path": "ImageClassifier",
    "init_args": {"backbone": "slim_resnet18", "backbone_kwargs": {"width": 1}, "dropout": 0.2},
}
SGD = {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01}}}
DATA: dict[str, Any] = {
    "class_path": "PhantomDataModule",
    "init_args": {"sites": 2, "patients": 12, "size": 32, "batch_size": 4, "augmentation": "Augmentation"},
}
CYCLICAL: dict[str, Any] = {
    "class_path": "CyclicalWeightTransfer",
    "init_args": {"every_n_epochs": 1, "optimizer_state": "carry"},
}


def fit_settings(name: str, **changes: Any) -> dict[str, Any]:
    """Those of ``lit-dist fit``."""
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": name}}
    settings: dict[str, Any] = {
        "seed_everything": 3,
        "model": MODEL,
        "data": DATA,
        "trainer": {**QUIET, "logger": logger},
    }
    settings = copy.deepcopy(settings)
    for part, more in changes.items():
        (settings[part] if part == "trainer" else settings[part]["init_args"]).update(more)
    return settings


FITS: dict[str, dict[str, Any]] = {
    "chain": fit_settings(
        "chain",
        trainer={
            "max_epochs": 6,
            "callbacks": [{**CYCLICAL, "init_args": {**CYCLICAL["init_args"], "baton_dir": "batons"}}],
        },
    ),
    "pooled": fit_settings("pooled", model=SGD, data={"centralized": True}, trainer={"max_epochs": 3}),
}
STUDY: dict[str, Any] = {
    "collection": "small",
    "passes": 2,
    "heuristics": ["ensemble", "cyclical_weight_transfer"],
    "seeds": [0],
    "model": MODEL,
    "data": DATA,
    "trainer": QUIET,
}
FEDERATED: dict[str, Any] = {
    "seed_everything": 3,
    "model": {**MODEL, "init_args": {**MODEL["init_args"], **SGD}},
    "trainer": {"max_epochs": 6, "logger": False, "callbacks": [CYCLICAL]},
}


@contextmanager
def interrupted(step: int) -> Iterator[None]:
    """Let a fit be told to end, as by a scheduler, within the step of a number."""
    train = ImageClassifier.training_step

    def told(module: ImageClassifier, *given: Any) -> Any:
        if module.trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(module, *given)

    with patch.object(ImageClassifier, "training_step", told), suppress(SystemExit):
        yield


def fit(name: str, *words: str) -> Path:
    """Make a run, and give its folder."""
    Path(f"{name}.yaml").write_text(yaml.safe_dump(FITS[name]))
    main(["fit", "--config", f"{name}.yaml", *words])
    return Path("runs") / name / "version_0"


def plan() -> tuple[Path, str]:
    """Plan the study, and give its folder and the name of its run of cyclical weight transfer."""
    Path("study.yaml").write_text(yaml.safe_dump(STUDY))
    main(["compare", "--config", "study.yaml", "--output", "study", "--print-commands"])
    return Path("study"), next(path.name for path in Path("study/runs").glob("cyclical*"))


class InProcess:
    """An engine that calls the sites.

    Args:
        parties: The sites.
        answers: After how many answers to ``train`` there are no more; None sets no limit.
    """

    def __init__(self, parties: dict[str, Any], answers: int | None = None) -> None:
        self.parties, self.answers = parties, answers

    def ask(self, question: str, content: Message, sites: Sequence[str]) -> dict[str, Message]:
        """Ask, as the engine of a federation does."""
        if question == "train" and self.answers is not None:
            self.answers -= 1
            if self.answers < 0:
                raise NoAnswerError("the line is dead", list(sites), {})
        return {site: self.parties[site].answer(question, content) for site in sites}


def federate(folder: Path, run: dict[str, Any], resume: bool = False, answers: int | None = None) -> FederatedRun:
    """Make a federated run, or resume it; each machine has its settings and files in a folder of its own."""
    own = {site: SiteSettings.read(folder / site / "site.yaml") for site in SITES}
    parties = {site: make_site(site, run, own[site], folder / site) for site in SITES}
    classes = ServerSettings.read(folder / "server" / "server.yaml").classes
    roster = Roster(InProcess(parties, answers), SITES)
    made = FederatedRun(run, roster, folder / "server", resume, classes=classes)
    with suppress(NoAnswerError):
        made.make()
    return made


def begin_federation(folder: Path, answers: int | None = None) -> FederatedRun:
    """Write the settings of the machines, and make a run."""
    for site in SITES:
        data = {**DATA, "init_args": {**DATA["init_args"], "only_site": site}}
        limits = {"max_visits": 9, "max_epochs_in_all": 99, "max_validations_in_all": 99, "min_images": 4}
        own = {"data": data, "trainer": {"accelerator": "cpu"}, "metrics": ["train_loss", "val_loss"], **limits}
        (folder / site).mkdir(parents=True)
        (folder / site / "site.yaml").write_text(yaml.safe_dump(own))
    (folder / "server").mkdir()
    (folder / "server" / "server.yaml").write_text(yaml.safe_dump({"classes": ["torch.nn.GELU"]}))
    return federate(folder, FEDERATED, answers=answers)


def weights(run: Path) -> str:
    """The hash of the weights of a run's newest checkpoint."""
    checkpoint = newest_checkpoint(run)
    assert checkpoint is not None
    return fingerprint(read_checkpoint(checkpoint)["state_dict"])[0]


def in_folder(name: str, make: Callable[[], None]) -> None:
    """Make something in a folder of its own."""
    before = Path.cwd()
    Path(name).mkdir()
    os.chdir(name)
    make()
    os.chdir(before)


def whole() -> None:
    """Make the runs to their ends, and print what they come to."""
    found = {name: weights(fit(name)) for name in FITS}
    study, name = plan()
    with patch("lit_dist.study.execute.delete_old_checkpoints"):
        execute(study, name)
    found["study"] = weights(study / "runs" / name / "fit")
    found["federation"] = fingerprint(begin_federation(Path("federation")).module.state_dict())[0]
    print("\n".join(f"{name}: {sha256}" for name, sha256 in found.items()))


def cut_short() -> None:
    """Make the runs, and interrupt each within a visit or an epoch."""
    for name in FITS:
        with interrupted(6):
            fit(name)
        delete_old_checkpoints(Path("runs") / name / "version_0", keep=1)
        shutil.move(Path("runs") / name / "version_0", name)
    for baton in Path("chain/batons").iterdir():  # one is enough for visit 2
        if baton.name != "visit_000001.baton":
            baton.unlink()
    study, name = plan()
    with interrupted(2):
        execute(study, name)
    delete_old_checkpoints(study / "runs" / name / "fit", keep=1)
    begin_federation(Path("federation"), answers=3)
    delete_old_checkpoints(Path("federation/server"), keep=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    output = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        in_folder("whole", whole)
        in_folder("cut_short", cut_short)
        made = Path("cut_short")
        for name in ("chain", "pooled", "study", "federation"):
            shutil.copytree(made / name, output / name, ignore=shutil.ignore_patterns("*lock", "*.lock"))
