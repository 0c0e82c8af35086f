from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import ImageClassifier, SafetensorsCheckpointIO, SiteEnsemble
from lit_dist.checkpoints.baton import write_checkpoint
from lit_dist.datamodules import PhantomDataModule
from lit_dist.models.ensemble import Output
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.regression import Regression
from lit_dist.utils.errors import InputError
from small import trainer

judge, METRICS = Classification().judge, tuple(Classification.measures)
BACKBONES = ("squeezenet1_1", "shufflenet_v2_x0_5", "slim_resnet18")
SIZES = {"mgh": 10, "Charité Berlin": 6}
IMAGES = torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Own(pl.LightningModule):
    """A user's module, which knows nothing of lit_dist; its initial weights depend on the seed alone."""

    def __init__(self, outputs: int = 2, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(12, width),
            nn.BatchNorm1d(width),
            nn.Linear(width, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        return outputs


class Fixed(nn.Module):
    """Gives the same outputs to every image."""

    def __init__(self, *outputs: float) -> None:
        super().__init__()
        self.outputs = torch.tensor(outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs.expand(len(images), -1)


class UnequalSites(PhantomDataModule):
    """The second site has half as many patients."""

    def read_images(self) -> pd.DataFrame:
        table = super().read_images()
        return table[(table["site"] != "site-2") | (table.index % 2 == 0)].reset_index(drop=True)


def members(outputs: int = 2, count: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    return [Own(outputs, width).eval() for width in range(4, 4 + count)]


def classifiers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [ImageClassifier(backbone).eval() for backbone in BACKBONES]


def average(predictions: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """The weighted mean in double precision."""
    return torch.from_numpy(np.average([part.double().numpy() for part in predictions], axis=0, weights=weights))


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=1e-7)


def sites(labels: Tensor) -> dict[str, DataLoader[tuple[Tensor, ...]]]:
    """Loaders of two sites, with 16 images and these labels between them."""
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    parts = zip(images.split(list(SIZES.values())), labels.split(list(SIZES.values())), strict=True)
    return {site: DataLoader(TensorDataset(*part), batch_size=4) for site, part in zip(SIZES, parts, strict=True)}


def stored(path: Path, module: pl.LightningModule) -> Path:
    """Write a module as a Trainer does, but for what only a fit has."""
    write_checkpoint({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    return path


# -- what it predicts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["equal", [1.0, 1.0, 1.0], [3.0, 1.0, 0.5]])
@torch.no_grad()
def test_probabilities_are_the_weighted_mean_of_the_softmax_of_members_of_any_architecture(weights: Any) -> None:
    models = classifiers()
    found = SiteEnsemble(models, weights=weights).eval()(IMAGES)
    alone = [model(IMAGES).softmax(dim=1) for model in models]
    assert_equal(found, average(alone, None if weights == "equal" else weights))
    shares = [1 / 3] * 3 if weights == "equal" else [weight / sum(weights) for weight in weights]
    assert torch.equal(found, sum(share * part for share, part in zip(shares, alone, strict=True)))
    logits = torch.stack([model(IMAGES) for model in models]).mean(dim=0)
    assert not torch.allclose(found, logits.softmax(dim=1), atol=1e-7), "the mean is not one of logits"


@pytest.mark.parametrize("flat", [True, False])
@torch.no_grad()
def test_binary_probabilities_are_the_mean_of_the_sigmoids(flat: bool) -> None:
    models = [nn.Sequential(model, nn.Flatten(0)) for model in members(1)] if flat else members(1)
    found = SiteEnsemble(models, output="binary", weights=[1.0, 2.0, 3.0]).eval()(IMAGES)
    positive = average([model(IMAGES).flatten().sigmoid() for model in models], [1, 2, 3])
    assert_equal(found, torch.stack([1 - positive, positive], dim=1))


@pytest.mark.parametrize("outputs", [1, 3])
@torch.no_grad()
def test_values_are_the_mean_of_the_members_values(outputs: int) -> None:
    found = SiteEnsemble(members(outputs), output="value").eval()(IMAGES)
    assert found.shape == (7, outputs)
    assert_equal(found, average([model(IMAGES) for model in members(outputs)]))


@pytest.mark.parametrize("weights", ["equal", "size", [1.0, 9.0]])
def test_a_trainer_predicts_the_mean_by_the_sites_sizes_too(weights: Any) -> None:
    models, data = classifiers()[::2], UnequalSites(sites=2, patients=20, size=32)
    run = trainer()
    found: Any = run.predict(SiteEnsemble(models, weights=weights), data)
    train = data.table[data.table["split"] == "train"].groupby("site").size()
    assert train["site-1"] > 1.5 * train["site-2"]
    given = [float(train["site-1"]), float(train["site-2"])] if weights == "size" else weights
    for number, loader in enumerate(data.predict_dataloader().values()):
        images = torch.cat([data.on_after_batch_transfer(batch, number)[0] for batch in loader])
        with torch.no_grad():
            alone = [model.eval()(images).softmax(dim=1) for model in models]
        assert_equal(torch.cat(found[number]), average(alone, None if weights == "equal" else given))


def test_a_batch_of_images_alone_is_predicted() -> None:
    ensemble = SiteEnsemble(members()).eval()
    assert torch.equal(ensemble.predict_step(IMAGES, 0), ensemble.predict_step((IMAGES, None), 0))


# -- what it logs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["val", "test"])
@pytest.mark.parametrize(("output", "outputs"), [("classes", 2), ("classes", 5), ("binary", 1)])
def test_values_of_classes_by_site_and_pooled(
    output: Output, outputs: int, stage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # of the terminal, in which no heading is wrapped
    labels = torch.arange(16) % max(outputs, 2)
    models, loaders, run = members(outputs), sites(labels), trainer()
    (run.validate if stage == "val" else run.test)(SiteEnsemble(models, output=output), loaders, verbose=False)
    pooled: list[tuple[Tensor, Tensor]] = []
    for site, loader in loaders.items():
        images, truth = loader.dataset[:]
        with torch.no_grad():
            logits = [model(images) for model in models]
        positive = average([part.flatten().sigmoid() for part in logits])
        several = average([part.softmax(dim=1) for part in logits])
        log_probs = (torch.stack([1 - positive, positive], dim=1) if output == "binary" else several).log()
        pooled.append((log_probs, truth))
        assert_logged(run, f"{stage}_{{}}/{site}", judge(log_probs, truth))
    assert_logged(run, f"{stage}_{{}}", judge(*(torch.cat(part) for part in zip(*pooled, strict=True))))
    assert len(run.callback_metrics) == 3 * len(METRICS) + 1  # with the mean of the AUROCs
    table = capsys.readouterr().out
    assert all(word in table for word in (f"{stage} records", "all sites", *SIZES, "balanced accuracy"))


def assert_logged(run: pl.Trainer, name: str, values: dict[str, Tensor]) -> None:
    for metric, value in values.items():
        logged = run.callback_metrics[name.format(metric)].item()
        assert logged == pytest.approx(value.item(), abs=1e-6, nan_ok=True), name.format(metric)


def test_values_of_a_regression_by_site_and_pooled(capsys: pytest.CaptureFixture[str]) -> None:
    truth = torch.linspace(-2, 2, 16)
    models, loaders, run = members(1), sites(truth), trainer()
    run.test(SiteEnsemble(models, output="value", weights=[1.0, 2.0, 1.0]), loaders, verbose=False)
    errors = []
    for site, loader in loaders.items():
        images, values = loader.dataset[:]
        with torch.no_grad():
            errors.append(average([model(images).flatten() for model in models], [1, 2, 1]) - values)
        assert_errors(run, f"/{site}", errors[-1])
    assert_errors(run, "", torch.cat(errors))
    assert len(run.callback_metrics) == 3 * len(Regression.measures)
    assert "absolute" in capsys.readouterr().out


def assert_errors(run: pl.Trainer, end: str, errors: Tensor) -> None:
    assert run.callback_metrics[f"test_loss{end}"].item() == pytest.approx((errors**2).mean().item(), abs=1e-6)
    logged = run.callback_metrics[f"test_mean_absolute_error{end}"].item()
    assert logged == pytest.approx(errors.abs().mean().item(), abs=1e-6)


def test_one_loader_without_sites() -> None:
    run = trainer()
    run.test(SiteEnsemble(members()), sites(torch.arange(16) % 2)["mgh"], verbose=False)
    assert set(run.callback_metrics) == {f"test_{metric}" for metric in METRICS}


def test_the_values_of_one_member_are_those_of_the_classifier_alone() -> None:
    torch.manual_seed(0)
    model, data = ImageClassifier("slim_resnet18"), PhantomDataModule(sites=2, patients=20, size=32)
    runs = [trainer(), trainer()]
    for run, tested in zip(runs, (model, SiteEnsemble([model])), strict=True):
        run.test(tested, data, verbose=False)
    alone, ensemble = ({name: value.item() for name, value in run.callback_metrics.items()} for run in runs)
    assert ensemble == pytest.approx(alone, abs=1e-6, nan_ok=True)


def test_probabilities_that_underflow_to_zero_give_a_finite_loss() -> None:
    models = [Fixed(0.0, 500.0), Fixed(0.0, 400.0)]
    assert SiteEnsemble(models)(IMAGES)[0, 0] == 0
    run = trainer()
    run.test(SiteEnsemble(models), sites(torch.arange(16) % 2), verbose=False)
    assert run.callback_metrics["test_loss"].item() == pytest.approx(-np.log(np.finfo(np.float32).tiny) / 2)
    assert run.callback_metrics["test_accuracy"].item() == 0.5


@pytest.mark.parametrize("logit", [-60.0, -20.0, 20.0, 60.0])
def test_the_loss_of_a_confident_binary_member_is_its_cross_entropy(logit: float) -> None:
    labels, run = torch.arange(16) % 2, trainer()
    run.test(SiteEnsemble([Fixed(logit)], output="binary"), sites(labels), verbose=False)
    expected = binary_cross_entropy_with_logits(torch.full((16,), logit), labels.float())
    assert run.callback_metrics["test_loss"].item() == pytest.approx(expected.item(), rel=1e-6)


# -- members from files ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_checkpoints_of_trained_classifiers_predict_as_the_classifiers() -> None:
    models, paths = [], [Path("site_1.ckpt"), Path("site_2.ckpt")]
    for path, site, backbone in zip(paths, ("site-1", "site-2"), BACKBONES[1:], strict=True):
        pl.seed_everything(0, verbose=False)
        models.append(ImageClassifier(backbone))
        run = trainer(max_epochs=1, plugins=[SafetensorsCheckpointIO()])
        run.fit(models[-1], PhantomDataModule(sites=2, patients=20, size=32, only_site=site, batch_size=7))
        assert run.global_step == 2
        run.save_checkpoint(path)
    with torch.no_grad():
        expected = average([model.eval()(IMAGES).softmax(dim=1) for model in models])
        for ensemble in (SiteEnsemble.from_checkpoints(paths), SiteEnsemble(checkpoints=list(map(str, paths)))):
            assert_equal(ensemble.eval()(IMAGES), expected)
        weighted = SiteEnsemble.from_checkpoints(paths, weights=[1.0, 3.0]).eval()(IMAGES)
        assert_equal(weighted, average([model(IMAGES).softmax(dim=1) for model in models], [1, 3]))


@torch.no_grad()
def test_checkpoints_of_a_users_own_class() -> None:
    torch.manual_seed(0)
    models = [Own(1, width).eval() for width in (3, 5)]
    paths = [stored(Path(f"{number}.ckpt"), model) for number, model in enumerate(models)]
    found = SiteEnsemble.from_checkpoints(paths, member=Own, output="value").eval()(IMAGES)
    assert_equal(found, average([model(IMAGES) for model in models]))


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"an ensemble needs members: give checkpoints=\[site_1.ckpt, site_2.ckpt, ...\]"),
        ({"members": []}, "an ensemble needs members"),
        ({"checkpoints": []}, "an ensemble needs members"),
        ({"members": [Fixed(0.0)], "checkpoints": ["a.ckpt"]}, "made of members or of checkpoints, not of both"),
        ({"members": [Fixed(0.0)], "output": "votes"}, "output='votes' is not one of classes, binary, value"),
        ({"members": [Fixed(0.0)], "weights": "sizes"}, "weights='sizes' is 'equal', 'size' or a number for each"),
        ({"members": [Fixed(0.0)], "weights": [1.0, 1.0]}, r"weights=\[1.0, 1.0\] are not 1 positive numbers"),
        ({"members": [Fixed(0.0)] * 2, "weights": [1.0]}, "are not 2 positive numbers, one a member"),
        ({"members": [Fixed(0.0)] * 2, "weights": [1.0, 0.0]}, "are not 2 positive numbers"),
        ({"members": [Fixed(0.0)] * 2, "weights": [1.0, -1.0]}, "are not 2 positive numbers"),
        ({"members": [Fixed(0.0)] * 2, "weights": [1.0, float("nan")]}, "are not 2 positive numbers"),
        ({"members": [Fixed(0.0)] * 2, "weights": [1.0, float("inf")]}, "are not 2 positive numbers"),
        ({"checkpoints": ["nowhere.ckpt"]}, "nowhere.ckpt cannot be read: No such file"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SiteEnsemble(**settings)


@pytest.mark.parametrize(
    ("models", "output", "message"),
    [
        ([Fixed(0.0, 1.0), Fixed(0.0, 1.0, 2.0)], "classes", r"different shapes: \[7, 2\] and \[7, 3\]"),
        ([Fixed(0.0), Fixed(0.0, 1.0)], "value", r"different shapes: \[7, 1\] and \[7, 2\]"),
        ([Fixed(0.0, 1.0)], "binary", "14 predictions for 7 images: output='binary' is not what members give"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(models: list[nn.Module], output: Output, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SiteEnsemble(models, output=output)(IMAGES)


def test_a_fit_is_refused() -> None:
    loaders = sites(torch.arange(16) % 2)
    with pytest.raises(InputError, match="an ensemble is not trained: train its members, one a site"):
        trainer().fit(SiteEnsemble(members()), loaders["mgh"], loaders)


def test_weights_by_size_need_sites_and_one_a_member() -> None:
    ensemble, run = SiteEnsemble(classifiers()[:2], weights="size"), trainer()
    with pytest.raises(InputError, match="weights='size' needs a datamodule with one training loader a site"):
        run.test(ensemble, sites(torch.arange(16) % 2))
    with pytest.raises(InputError, match=r"weights=\[14.0, 14.0, 14.0\] are not 2 positive numbers, one a member"):
        run.test(ensemble, PhantomDataModule(sites=3, patients=20, size=32))
