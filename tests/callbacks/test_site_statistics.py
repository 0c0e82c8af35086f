"""SiteStatistics: what is judged with it against a plain loop, and that a run's weights never show it."""

import copy
import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import ImageClassifier, InputError, SafetensorsCheckpointIO, SiteEnsemble, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, SiteEvaluation, SiteStatistics, site_statistics
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.datamodules import PhantomDataModule
from lit_dist.datamodules.images.augmentation import Augmentation
from lit_dist.visits.seeding import derive
from small import SmallData, SmallModule, loaders, trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def model() -> ImageClassifier:
    pl.seed_everything(0, verbose=False)
    return ImageClassifier("slim_resnet18", backbone_kwargs={"width": 8}, dropout=0.2)


def data(**kwargs: Any) -> PhantomDataModule:
    augmentation = Augmentation(rotation=90, brightness=0.3)
    return PhantomDataModule(sites=3, patients=48, size=32, batch_size=6, augmentation=augmentation, **kwargs)


def fitted(*callbacks: Callback, kind: dict[str, Any] | None = None, **kwargs: Any) -> tuple[pl.Trainer, Any]:
    made = trainer(*callbacks, **{"max_epochs": 3, "plugins": [SafetensorsCheckpointIO()], **kwargs})
    module = model()
    made.fit(module, datamodule=data(**(kind or {})))
    return made, module


def cyclical() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1)


def plain_loss(module: ImageClassifier, site: str, split: str) -> float:
    """Of a site's images, with a network that has seen a sample of its training images."""
    images = data()
    images.prepare_data()
    images.setup("fit")
    train, judged = images.dataset([site], "train"), images.dataset([site], split)
    drawn = np.sort(np.random.default_rng(derive(0, "statistics", site)).choice(len(train), 10, replace=False))
    network = copy.deepcopy(module.backbone).eval()
    norms = [each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train().reset_running_stats()
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1
        network(images.normalise(train.__getitems__(drawn.tolist())[0]))
        pixels, labels = judged.__getitems__(range(len(judged)))
        return cross_entropy(network.eval()(images.normalise(pixels)), labels).item()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.Trainer, ImageClassifier]:
    best = ModelCheckpoint(monitor="val_loss", save_last=True, save_top_k=-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        return fitted(cyclical(), SiteStatistics(images=10), SiteEvaluation(metric="accuracy"), best)


@pytest.mark.slow
def test_each_site_is_validated_with_its_own_statistics(run: tuple[pl.Trainer, ImageClassifier]) -> None:
    for site in ("site-1", "site-2", "site-3"):
        found = run[0].callback_metrics[f"val_loss/{site}"].item()
        assert found == pytest.approx(plain_loss(run[1], site, "val"), rel=1e-4)


def test_a_site_evaluation_sees_what_a_validation_does(run: tuple[pl.Trainer, ImageClassifier]) -> None:
    evaluation = next(each for each in run[0].callbacks if isinstance(each, SiteEvaluation))  # type: ignore[attr-defined]
    logged = {name.partition("/")[2]: value.item() for name, value in run[0].callback_metrics.items()}
    with torch.random.fork_rng():
        values = evaluation.values(run[0], run[1])
    assert values == {site: run[0].callback_metrics[f"val_accuracy/{site}"].item() for site in logged if site}


def test_the_weights_of_a_run_and_of_its_checkpoints_are_what_they_are_without(
    run: tuple[pl.Trainer, ImageClassifier],
) -> None:
    last = ModelCheckpoint(monitor="val_loss", save_last=True, save_top_k=-1)
    _, without = fitted(cyclical(), last)
    assert fingerprint(without.state_dict()) == fingerprint(run[1].state_dict())
    checkpoints: Any = run[0].checkpoint_callbacks
    saved = [read_checkpoint(Path(each.last_model_path))["state_dict"] for each in (last, checkpoints[0])]
    assert fingerprint(saved[0]) == fingerprint(saved[1])


def test_all_heuristics_are_tested_by_site(run: tuple[pl.Trainer, ImageClassifier]) -> None:
    losses = {}
    for kind in ({}, {"centralized": True}, {"only_site": "site-2"}):
        made = trainer(SiteStatistics(images=10))
        losses[str(kind)] = made.test(run[1], datamodule=data(**kind), verbose=False)[0]["test_loss/site-3"]
    assert set(losses.values()) == {losses["{}"]}
    assert losses["{}"] == pytest.approx(plain_loss(run[1], "site-3", "test"), rel=1e-4)
    made = trainer(SiteStatistics(images=10))
    probabilities = made.predict(run[1], datamodule=data())
    assert probabilities is not None
    alone = SiteEnsemble([run[1], run[1]])
    averaged = made.predict(alone, datamodule=data())
    torch.testing.assert_close(averaged, probabilities)


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one() -> None:
    def callbacks() -> list[Callback]:
        return [cyclical(), SiteStatistics(images=8), EMAWeightAveraging(), RunCheckpoint(every_n_steps=4)]

    unbroken, _ = fitted(*callbacks(), max_epochs=4)
    state = newest_checkpoint(".")
    fitted(*callbacks(), max_epochs=2, default_root_dir="half")
    resumed = trainer(*callbacks(), max_epochs=4, default_root_dir="half")
    resumed.fit(model(), datamodule=data(), ckpt_path=newest_checkpoint("half"))
    assert resumed.callback_metrics.keys() == unbroken.callback_metrics.keys()
    assert all(torch.equal(value, resumed.callback_metrics[name]) for name, value in unbroken.callback_metrics.items())
    hashes = [fingerprint(read_checkpoint(each)["state_dict"]) for each in (state, newest_checkpoint("half")) if each]
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]


def test_a_stage_looks_for_the_layers_once_a_site_and_in_its_own_module(
    run: tuple[pl.Trainer, ImageClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    usual = site_statistics.norms_of
    monkeypatch.setattr(site_statistics, "norms_of", lambda module: looked.append(module) or usual(module))  # type: ignore[func-returns-value]
    statistics, other = SiteStatistics(images=10), copy.deepcopy(run[1])
    made = trainer(statistics, limit_test_batches=3)
    losses = [made.test(each, datamodule=data(), verbose=False)[0]["test_loss/site-3"] for each in (run[1], other)]
    assert [each is run[1] for each in looked] == [True] * 4 + [False] * 4
    assert losses[0] == losses[1]
    assert statistics._found is None


class Failing(SmallModule):
    """Cannot validate."""

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs: Tensor = self.network(batch[0] / 10)
        return outputs

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        raise RuntimeError("in the middle of a validation")


class ByName(SmallData):
    """A stranger's datamodule, with a validation loader a site."""

    def val_dataloader(self) -> Any:
        return loaders(shuffle=False)


def test_a_step_that_fails_leaves_the_weights_as_they_were() -> None:
    module = Failing()
    before = fingerprint(module.state_dict())
    statistics = SiteStatistics()
    with pytest.raises(RuntimeError, match="in the middle"):
        trainer(statistics).validate(module, datamodule=ByName())
    assert fingerprint(module.state_dict()) == before
    assert "validation_step" not in vars(module)


class Puzzling(Failing):
    """Predicts from what no loader gives."""

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs: Tensor = self.network(batch["image"])
        return outputs


class Predicting(Failing):
    """A stranger's module, which logs by loader."""

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_mean", self.predict_step(batch, 0).mean())


def test_a_stranger_s_module_and_loaders() -> None:
    module, images = Predicting(), ByName()
    found = trainer(SiteStatistics()).validate(module, datamodule=images, verbose=False)[1]
    dataset = images.train_dataloader()["b"].dataset
    network = copy.deepcopy(module.network).eval()
    network[1].momentum = 1
    network[1].train()
    network(dataset[:][0] / 10)
    with torch.no_grad():
        wanted = network.eval()(dataset[:][0] / 10).mean().item()
    assert found["val_mean/dataloader_idx_1"] == pytest.approx(wanted, rel=1e-4)


def test_a_plain_run_draws_the_random_numbers_that_it_draws_without() -> None:
    states = []
    for callbacks in ([], [SiteStatistics()]):
        torch.manual_seed(0)
        trainer(*callbacks).validate(Predicting(), datamodule=ByName(), verbose=False)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_site_without_training_images_gets_statistics_of_those_that_are_judged() -> None:
    with pytest.warns(UserWarning, match=r"'[abc]' has no training images .*\(transductive\)"):
        trainer(SiteStatistics()).validate(Predicting(), dataloaders=loaders(shuffle=False), verbose=False)


def test_none_are_estimated_from_no_images(run: tuple[pl.Trainer, ImageClassifier]) -> None:
    losses = [
        trainer(*callbacks).test(run[1], datamodule=data(), verbose=False)[0]["test_loss"]
        for callbacks in ([SiteStatistics(images=0)], [], [SiteStatistics(images=10)])
    ]
    assert losses[0] == losses[1] != losses[2]


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="two SiteStatistics"):
        fitted(SiteStatistics(8), SiteStatistics(9))
    with pytest.raises(InputError, match="loaders by site"):
        trainer(SiteStatistics()).validate(Predicting(), datamodule=SmallData())
    with pytest.raises(InputError, match="loaders by site"):
        trainer(SiteStatistics()).validate(Predicting(), dataloaders=list(loaders(shuffle=False).values()))
    with pytest.raises(InputError, match=r"Puzzling cannot predict a batch \(TypeError"):
        trainer(SiteStatistics()).validate(Puzzling(), datamodule=ByName())
    with pytest.raises(InputError, match="images=1"):
        SiteStatistics(images=1)
    one = SmallData(batch_size=1)
    one.train_dataloader = one.val_dataloader = lambda: {"a": DataLoader(TensorDataset(torch.ones(1, 3)))}  # type: ignore[method-assign]
    with pytest.raises(InputError, match="'a': it has 1 records, and 2 are needed"):
        trainer(SiteStatistics()).validate(Predicting(), datamodule=one)


def test_a_network_without_batch_normalisation_is_judged_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    module = Predicting()
    module.network[1] = torch.nn.Identity()
    with caplog.at_level(logging.INFO):
        trainer(SiteStatistics()).validate(module, dataloaders=loaders(shuffle=False), verbose=False)
    assert "Predicting has no batch normalisation" in caplog.text


def test_double_precision() -> None:
    module = Predicting()
    trainer(SiteStatistics(), precision="64-true").validate(module, datamodule=ByName(), verbose=False)
    assert module.network[1].running_mean.dtype == torch.float64  # type: ignore[union-attr]


def test_fixed_statistics_stay() -> None:
    module = Predicting()
    module.network[1] = FixedNorm()
    trainer(SiteStatistics()).validate(module, datamodule=ByName(), verbose=False)


class FixedNorm(torch.nn.Module):
    """As detectors have it: statistics that nothing changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))

    def forward(self, values: Tensor) -> Tensor:
        return values - self.get_buffer("running_mean")
