"""Projects of strangers: MONAI's dicts, a Hugging Face model that warms up, and MedMNIST's labels of shape (N, 1)."""

import csv
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from strangers import PROJECTS, SIZES, project

from lit_dist import read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, SingleWeightTransfer, SiteEvaluation
from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.federation.client import Parts
from lit_dist.federation.roster import Roster
from lit_dist.federation.server import Server
from lit_dist.federation.transfer_client import TransferClient
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.verify import verify
from small_federation import InProcess, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:No (positive|negative) samples in targets"),  # of an AUROC, in small batches
]

METRICS = {"monai": ("val_dice", "dice"), "transformers": ("val/loss", None), "medmnist": ("val_acc", "acc")}
"""What each project is steered by, and its short name."""
Run = tuple[pl.Trainer, pl.LightningModule]


def single(name: str) -> WeightTransfer:
    metric = METRICS[name][0]
    mode: Any = "min" if "loss" in metric else "max"
    return SingleWeightTransfer(f"{metric}/{{site}}", mode, patience=1, max_epochs_per_site=2)


def cyclical(name: str) -> WeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="carry")


WAYS: dict[str, Callable[[str], WeightTransfer]] = {"single": single, "cyclical": cyclical}


def fit(folder: str, name: str, way: str, *callbacks: Callback, path: Path | None = None, **kwargs: Any) -> Run:
    module, data = project(name)
    run = trainer(Path(folder), WAYS[way](name), *callbacks, **kwargs)
    run.fit(module, data, ckpt_path=path, weights_only=True if path else None)
    return run, module


def others(name: str, folder: Path) -> list[Callback]:
    best = ModelCheckpoint(folder / "best", monitor=METRICS[name][0], filename="best")
    return [SiteEvaluation("visit", metric=METRICS[name][1]), RunCheckpoint(every_n_steps=1, keep=99), best]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Run, Path]]:
    """Each project by each way, made once, with a checkpoint of each step."""

    @cache
    def made(name: str, way: str) -> tuple[Run, Path]:
        folder = tmp_path_factory.mktemp("simulated")
        return fit(str(folder), name, way, *others(name, folder), enable_checkpointing=True), folder

    return made


def entries(folder: Path) -> list[Entry]:
    return read_entries(folder / "ledger.jsonl")


@pytest.mark.parametrize("name", PROJECTS)
def test_values_by_site_are_those_that_lightning_finds_with_one_loader(name: str, simulated: Any) -> None:
    (run, module), folder = simulated(name, "cyclical")
    found = {key: float(value) for key, value in run.callback_metrics.items()}
    for site in SIZES:
        [alone] = trainer(Path("alone")).validate(module, project(name, site)[1], verbose=False)
        assert {key: found[f"{key}/{site}"] for key in alone} == pytest.approx(alone)
    metric = METRICS[name][0]
    sizes = [size for _, size in SIZES.values()]
    mean = sum(found[f"{metric}/{site}"] * size for site, (_, size) in SIZES.items()) / sum(sizes)
    assert found[metric] == pytest.approx(mean)
    assert read_checkpoint(folder / "best" / "best.ckpt")["global_step"] > 0
    assert [line.images for line in entries(folder)[:3]] == [size for size, _ in SIZES.values()]


@pytest.mark.parametrize("name", PROJECTS)
def test_the_matrix_has_the_values_of_the_validation_and_the_run_does_not_notice(name: str, simulated: Any) -> None:
    (run, _), folder = simulated(name, "cyclical")
    with (folder / "site_matrix.csv").open() as file:
        rows = list(csv.DictReader(file))[-3:]
    metric = METRICS[name][0]
    expected = [float(run.callback_metrics[f"{metric}/{row['site']}"]) for row in rows]
    assert [float(row["value"]) for row in rows] == pytest.approx(expected)
    fit("without", name, "cyclical")
    assert [line.sha256_out for line in entries(Path("without"))] == [line.sha256_out for line in entries(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROJECTS)
def test_an_interrupted_run_equals_an_unbroken_one(name: str, way: str, simulated: Any) -> None:
    _, folder = simulated(name, way)
    whole = [line.sha256_out for line in entries(folder)]
    paths = sorted((folder / "checkpoints").glob("step_*.ckpt"))
    for path in (paths[1], paths[len(paths) // 2]):
        again = Path(f"again_{path.stem}")
        again.mkdir()
        shutil.copy(folder / "site_matrix.csv", again)  # it had come to the end, and is sent back
        fit(str(again), name, way, *others(name, folder), path=path, enable_checkpointing=True)
        assert [line.sha256_out for line in entries(again)] == whole[-len(entries(again)) :]
        assert (again / "site_matrix.csv").read_text() == (folder / "site_matrix.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROJECTS)
def test_a_federation_equals_the_simulation(name: str, way: str, simulated: Any) -> None:
    (run, _), folder = simulated(name, way)

    def party(site: str) -> TransferClient:
        return TransferClient(site, Parts(trainer(Path(site), WAYS[way](name)), *project(name, site)))

    parties = InProcess({site: party(site) for site in SIZES})
    evaluation = SiteEvaluation("visit", metric=METRICS[name][1])
    at_server = trainer(Path("server"), WAYS[way](name), evaluation)
    Server(Roster(parties, list(SIZES), "retry"), at_server, project(name)[0]).run()
    mine, theirs = entries(folder), entries(Path("server"))
    assert [(e.site, e.images, e.steps, e.sha256_out) for e in theirs] == [
        (e.site, e.images, e.steps, e.sha256_out) for e in mine
    ]
    assert "chain is whole" in verify("server")
    values = {key: v for key, v in at_server.callback_metrics.items() if key.startswith("val")}
    assert values == {key: run.callback_metrics[key] for key in values}
    assert METRICS[name][0].replace("val_acc", "val_mean_acc") in values  # sites do not give a torchmetric's states
    assert Path("server/site_matrix.csv").read_text() == (folder / "site_matrix.csv").read_text()
