"""SiteEvaluation: its values against an independent evaluation, and that a run does not notice it."""

import copy
import csv
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import wandb
import wandb_reader
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import ImageClassifier, InputError
from lit_dist.callbacks import (
    CyclicalWeightTransfer,
    RunCheckpoint,
    SingleWeightTransfer,
    SiteEvaluation,
    WeightTransfer,
    site_evaluation,
)
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.datamodules import PhantomDataModule
from lit_dist.tasks.classification import Classification
from small import ledger, trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

SITES = ["a", "b", "c"]
Values = dict[str, float]


def images(site: int, split: str) -> TensorDataset:
    """Points whose labels follow another line at each site, so that what one teaches, another unteaches."""
    generator = torch.Generator().manual_seed(10 * site + len(split))
    points = torch.randn(11, 3, generator=generator)
    labels = (points @ torch.tensor([[1.0, 1, 0], [-1, 1, 0], [0, -1, 1]])[site] > 0.1).long()
    return TensorDataset(points, labels)


class Data(pl.LightningDataModule):
    """Three sites of points."""

    def loaders(self, split: str) -> dict[str, DataLoader[Any]]:
        train = split == "train"
        return {
            name: DataLoader(images(site, split), batch_size=3, shuffle=train, drop_last=train)
            for site, name in enumerate(SITES)
        }

    def train_dataloader(self) -> Any:
        return self.loaders("train")

    def val_dataloader(self) -> Any:
        return self.loaders("val")

    def test_dataloader(self) -> Any:
        return self.loaders("test")


class Module(pl.LightningModule):
    """A classifier of points, with dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.task = Classification(2)
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        self.losses: list[Tensor] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.losses.append(nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

    def on_validation_epoch_end(self) -> None:
        self.log("val_loss", torch.stack(self.losses).mean())
        self.losses.clear()

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        probabilities: Tensor = self.network(batch[0]).softmax(dim=1)
        return probabilities

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)


class Copies(Callback):
    """Keeps the weights as they are at the end of each visit."""

    def __init__(self, transfer: WeightTransfer) -> None:
        self.transfer = transfer
        self.networks: list[nn.Module] = []

    def look(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if self.transfer.visits_ended > len(self.networks):
            self.networks.append(copy.deepcopy(module.network))  # type: ignore[arg-type]

    on_train_batch_end = on_train_epoch_end = look


def fit(*callbacks: Callback, module: pl.LightningModule | None = None, **options: Any) -> pl.LightningModule:
    path, data = options.pop("path", None), options.pop("data", None) or Data()
    pl.seed_everything(0, verbose=False)
    module = module or Module()
    trainer(*callbacks, **options).fit(module, data, ckpt_path=path, weights_only=True if path else None)
    return module


def matrix(folder: Path = Path()) -> list[dict[str, str]]:
    with (folder / "site_matrix.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    return float((probabilities[:, 1] > 0.5).eq(labels == 1).double().mean())


def balanced_accuracy(probabilities: Tensor, labels: Tensor) -> float:
    guesses = probabilities[:, 1] > 0.5
    return float(torch.stack([(guesses[labels == k] == bool(k)).double().mean() for k in (0, 1)]).mean())


def auroc(probabilities: Tensor, labels: Tensor) -> float:
    sick, well = probabilities[labels == 1, 1], probabilities[labels == 0, 1]
    above = sick[:, None] - well[None]
    return float(((above > 0).double() + 0.5 * (above == 0)).mean())


METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "auroc": auroc}


def evaluated(network: nn.Module, split: str = "val", metric: str = "accuracy") -> Values:
    """What a network is worth at each site, in plain torch."""
    network.eval()
    with torch.no_grad():
        parts = [images(site, split).tensors for site in range(3)]
        return {name: METRICS[metric](network(x).softmax(1), y) for name, (x, y) in zip(SITES, parts, strict=True)}


CYCLICAL: dict[str, tuple[dict[str, Any], int]] = {
    "epochs": ({"every_n_epochs": 1}, 6),
    "two epochs": ({"every_n_epochs": 2, "optimizer_state": "carry"}, 12),
    "steps": ({"every_n_steps": 2}, 2),
    "an order of two sites": ({"every_n_epochs": 1, "order": ["c", "a"]}, 6),
    "shuffled": ({"every_n_epochs": 1, "order": "shuffled"}, 6),
}


# -- the values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", ["visit", "cycle"])
@pytest.mark.parametrize("name", CYCLICAL)
def test_each_row_is_what_an_independent_evaluation_finds_at_the_visits_end(name: str, every: Any) -> None:
    settings, epochs = CYCLICAL[name]
    transfer = CyclicalWeightTransfer(**settings)
    copies = Copies(transfer)
    fit(transfer, copies, SiteEvaluation(every), max_epochs=epochs)
    lines = ledger()
    assert [fingerprint(_named(network))[0] for network in copies.networks] == [line["sha256_out"] for line in lines]
    assert len(lines) == 6
    a_cycle = 2 if "two" in name and "order" in name else 3
    expected = [
        (line["visit"], line["cycle"], line["site"], site, value)
        for line, network in zip(lines, copies.networks, strict=True)
        if every == "visit" or line["visit"] % a_cycle == a_cycle - 1
        for site, value in evaluated(network).items()
    ]
    found = [(int(r["visit"]), int(r["cycle"]), r["visited"], r["site"], float(r["value"])) for r in matrix()]
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    assert [row[4] for row in found] == pytest.approx([row[4] for row in expected])
    assert len({row[4] for row in found}) > 1, "the values differ, so that mixing them up would be seen"


def _named(network: nn.Module) -> dict[str, Tensor]:
    return {f"network.{name}": tensor for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("hand_over", ["best", "last"])
@pytest.mark.parametrize("every", ["visit", "cycle"])
def test_single_weight_transfer_is_evaluated_with_the_weights_that_it_hands_over(every: Any, hand_over: Any) -> None:
    transfer = SingleWeightTransfer(patience=1, max_epochs_per_site=4, hand_over=hand_over)
    copies = Copies(transfer)
    fit(transfer, copies, SiteEvaluation(every), max_epochs=20)
    lines = ledger()
    assert [fingerprint(_named(network))[0] for network in copies.networks] == [line["sha256_out"] for line in lines]
    networks = copies.networks if every == "visit" else copies.networks[-1:]
    expected = [value for network in networks for value in evaluated(network).values()]
    assert [float(row["value"]) for row in matrix()] == pytest.approx(expected)
    visited = [site for site in SITES for _ in SITES] if every == "visit" else ["c"] * 3
    assert [row["visited"] for row in matrix()] == visited


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("split", ["val", "test"])
def test_every_metric_and_both_splits(split: Any, metric: Any) -> None:
    transfer = CyclicalWeightTransfer(every_n_epochs=1)
    copies = Copies(transfer)
    fit(transfer, copies, SiteEvaluation("visit", split, metric), max_epochs=3)
    expected = [value for network in copies.networks for value in evaluated(network, split, metric).values()]
    assert [float(row["value"]) for row in matrix()] == pytest.approx(expected)


def test_forgetting_and_fluctuation_are_as_they_are_defined() -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), max_epochs=9)
    for site in SITES:
        rows = [row for row in matrix() if row["site"] == site]
        values = [float(row["value"]) for row in rows]
        assert len(values) == 9
        for number, row in enumerate(rows):
            so_far = values[: number + 1]
            changes = [abs(after - before) for before, after in pairwise(so_far)]
            assert float(row["forgetting"]) == pytest.approx(max(so_far) - so_far[-1])
            assert float(row["fluctuation"]) == pytest.approx(sum(changes) / len(changes) if changes else 0)
        assert max(float(row["forgetting"]) for row in rows) > 0, "else this shows nothing"


def test_images_have_the_values_that_the_classifiers_own_validation_finds() -> None:
    module = ImageClassifier("slim_resnet18", backbone_kwargs={"width": 4})
    data = PhantomDataModule(sites=2, patients=20, size=32, val_fraction=0.3)
    fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), module=module, data=data, max_epochs=3)
    validated = [line["metrics"][f"val_accuracy/{site}"] for line in ledger() for site in ("site-1", "site-2")]
    assert [float(row["value"]) for row in matrix()] == pytest.approx(validated)


# -- a run does not notice it ------------------------------------------------------------------------------------------


class Frozen(Module):
    """Keeps its batch norm in evaluation mode."""

    def on_train_start(self) -> None:
        self.network[1].eval()


class Drawing(Module):
    """Draws between two steps, and in its predictions."""

    def on_train_epoch_start(self) -> None:
        self.noise = torch.rand(3)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step([batch[0] + self.noise, batch[1]], batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        torch.rand(5)
        return super().predict_step(batch, batch_idx)


class Augmenting(Data):
    """Augments where the trainer trains, and counts what it has augmented."""

    augmented = 0

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        training = self.trainer is not None and self.trainer.training
        self.augmented += training
        return [batch[0] + torch.rand(3), batch[1]] if training else batch


@pytest.mark.parametrize(("kind", "data"), [(Module, Data), (Frozen, Data), (Drawing, Data), (Module, Augmenting)])
@pytest.mark.parametrize("every", ["visit", "cycle"])
def test_the_weights_are_the_same_with_and_without_it(kind: type[Module], data: type[Data], every: Any) -> None:
    ends = []
    for moment in ("off", every):
        Path("ledger.jsonl").unlink(missing_ok=True)
        pl.seed_everything(0, verbose=False)
        module = kind()
        callbacks = CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation(moment)
        fit(*callbacks, module=module, data=data(), limit_val_batches=0)
        ends.append([line["sha256_out"] for line in ledger()])
    assert len(ends[0]) == 6
    assert ends[0] == ends[1]
    assert module.training
    assert module.network[1].training == (kind is not Frozen)
    assert len(matrix()) == (18 if every == "visit" else 6)


def test_hooks_that_augment_in_training_see_that_this_is_none() -> None:
    data = Augmenting()
    module = fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), data=data, max_epochs=3)
    assert data.augmented == 3 * 3, "the steps of training alone"
    expected = list(evaluated(copy.deepcopy(module.network)).values())  # type: ignore[arg-type]
    assert [float(row["value"]) for row in matrix()[-3:]] == pytest.approx(expected)


def test_off_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(site_evaluation, "rank_zero_info", said.append)
    fit(SiteEvaluation("off"), CyclicalWeightTransfer(every_n_epochs=1), max_epochs=3)
    assert not Path("site_matrix.csv").exists()
    assert not said


def test_a_trial_run_leaves_the_matrix_alone() -> None:
    Path("site_matrix.csv").write_text("of another run")
    fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), fast_dev_run=True)
    assert Path("site_matrix.csv").read_text() == "of another run"


def test_the_cost_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(site_evaluation, "rank_zero_info", said.append)
    fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("cycle"), max_epochs=6)
    [line] = said
    share = float(line.partition(" took ")[2].partition(" %")[0])
    assert line.startswith("SiteEvaluation: 2 evaluations on every site took ")
    assert 0 < share < 100


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [[], ["after"]])
def test_it_stands_after_the_transfer(others: list[str]) -> None:
    with pytest.raises(InputError, match="SiteEvaluation stands after a transfer callback"):
        fit(SiteEvaluation("visit"), *(CyclicalWeightTransfer(every_n_epochs=1) for _ in others))


def test_one_loader_for_all_sites_is_refused() -> None:
    class Pooled(Data):
        def val_dataloader(self) -> Any:
            return self.loaders("val")["a"]

    with pytest.raises(InputError, match=r"needs a val_dataloader\(\) .* one loader a site"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), data=Pooled())


def test_loaders_may_be_passed_to_fit() -> None:
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), max_epochs=3)
    module, data = Module(), Data()
    run.fit(module, data.train_dataloader(), data.val_dataloader())
    assert [float(row["value"]) for row in matrix()[-3:]] == pytest.approx([*evaluated(module.network).values()])


@pytest.mark.parametrize("metric", [None, "accuracy"])
def test_a_module_without_a_task_is_judged_by_what_it_logs_or_else_by_its_probabilities(metric: str | None) -> None:
    class Plain(Module):
        def __init__(self) -> None:
            super().__init__()
            self.task = None  # type: ignore[assignment]

    module = fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit", metric=metric), module=Plain())
    logged = [float(module.trainer.callback_metrics[f"val_loss/{site}"]) for site in SITES]
    expected = [*evaluated(module.network).values()] if metric else logged  # type: ignore[arg-type]
    assert [float(row["value"]) for row in matrix()[-3:]] == pytest.approx(expected)


@pytest.mark.parametrize("arguments", [{"every": "epoch"}, {"split": "train"}])
def test_unknown_settings_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(arguments.values()))!r}"):
        SiteEvaluation(**arguments)


def test_a_metric_that_the_task_does_not_have_is_refused_before_the_fit() -> None:
    with pytest.raises(InputError, match="metric='f1' is not one of loss, accuracy, balanced_accuracy, auroc"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit", metric="f1"), data=Data())


# -- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("every", ["visit", "cycle"])
@pytest.mark.parametrize("settings", [{"every_n_epochs": 1}, {"every_n_steps": 2}])
def test_a_run_that_is_resumed_has_each_row_once(settings: dict[str, Any], every: Any, tmp_path: Path) -> None:
    def run(folder: Path, path: Path | None = None) -> str:
        callbacks = CyclicalWeightTransfer(**settings), SiteEvaluation(every), RunCheckpoint(every_n_steps=1, keep=99)
        epochs = 6 if "every_n_epochs" in settings else 2
        fit(*callbacks, default_root_dir=folder, max_epochs=epochs, path=path)
        return (folder / "site_matrix.csv").read_text()

    whole = run(tmp_path / "whole")
    assert whole.count("\n") == 1 + (18 if every == "visit" else 6)
    checkpoints = sorted((tmp_path / "whole" / "checkpoints").glob("*"))
    assert len(checkpoints) > 10
    for path in checkpoints[:-1:3]:
        folder = tmp_path / path.stem
        folder.mkdir()
        for name in ("site_matrix.csv", "ledger.jsonl"):  # it had come to the end, and is sent back
            shutil.copy(tmp_path / "whole" / name, folder)
        assert run(folder, path) == whole, path.stem


def test_a_new_run_in_the_same_folder_begins_a_new_matrix() -> None:
    evaluation = SiteEvaluation("visit")
    for _ in range(2):
        Path("ledger.jsonl").unlink(missing_ok=True)
        fit(CyclicalWeightTransfer(every_n_epochs=1), evaluation, max_epochs=3)
    assert [row["visit"] for row in matrix()] == [visit for visit in "012" for _ in SITES]
    assert {row["fluctuation"] for row in matrix()[:3]} == {"0.0"}


def test_no_row_is_lost_to_a_kill_while_the_rows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = SiteEvaluation("visit")
    fit(CyclicalWeightTransfer(every_n_epochs=1), evaluation, max_epochs=3)
    before = Path("site_matrix.csv").read_text()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluation._keep_rows(Path("site_matrix.csv"))
    assert Path("site_matrix.csv").read_text() == before


# -- loggers -----------------------------------------------------------------------------------------------------------


def test_a_csv_logger_has_the_metrics(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="run")
    fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), logger=logger, log_every_n_steps=1)
    rows = matrix(tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row["forgetting"]]
    assert [int(row["step"]) for row in logged] == [3, 6, 9, 12, 15, 18]
    for number, row in enumerate(logged):
        three = rows[3 * number : 3 * number + 3]
        assert [float(row[f"site_accuracy/{site}"]) for site in SITES] == [float(one["value"]) for one in three]
        for name in ("forgetting", "fluctuation"):
            assert float(row[name]) == pytest.approx(sum(float(one[name]) for one in three) / 3)


@pytest.mark.slow
def test_an_offline_wandb_run_has_the_table_and_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path / "tracked", project="lit_dist", offline=True)
    fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), logger=logger, log_every_n_steps=1)
    wandb.teardown()  # `finish` alone returns before the run's file is whole
    rows = matrix(tmp_path / "tracked")
    [path] = (tmp_path / "tracked" / "wandb").glob("offline-run-*/*.wandb")
    history = wandb_reader.history(path)
    logged = [row for row in history if "forgetting" in row]
    assert [row["site_accuracy/b"] for row in logged] == [float(row["value"]) for row in rows if row["site"] == "b"]
    assert [row["trainer/global_step"] for row in logged] == [3, 6, 9, 12, 15, 18]
    [table] = (path.parent / "files" / "media" / "table").glob("site_matrix_*.table.json")
    content = json.loads(table.read_text())
    assert content["columns"] == list(rows[0])
    kinds = [int, int, str, str, float, float, float]
    assert content["data"] == [[kind(row[name]) for kind, name in zip(kinds, row, strict=True)] for row in rows]


def test_images_come_in_the_precision_of_the_run() -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation(), max_epochs=3, precision="64-true")
    assert {row["site"] for row in matrix()} == set(SITES)
