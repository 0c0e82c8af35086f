import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import ImageClassifier, SafetensorsCheckpointIO
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.tasks.classification import Classification
from lit_dist.utils.errors import InputError
from small import trainer

judge, METRICS = Classification().judge, tuple(Classification.measures)


def site(seed: int, images: int) -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 2
    pixels = torch.randn(images, 3, 32, 32, generator=generator) + labels.view(-1, 1, 1, 1)
    return DataLoader(TensorDataset(pixels, labels), batch_size=4)


@pytest.fixture
def model() -> ImageClassifier:
    pl.seed_everything(0, verbose=False)
    return ImageClassifier("slim_resnet18")


@pytest.mark.parametrize("stage", ["val", "test"])
def test_values_a_site_and_over_all_sites(model: ImageClassifier, stage: str, capsys: Any) -> None:
    sites = {"mgh": site(0, 10), "Charité Berlin": site(1, 6)}
    run = trainer()
    (run.validate if stage == "val" else run.test)(model, sites, verbose=False)
    model.eval()
    with torch.no_grad():
        outputs = {
            name: (model(loader.dataset.tensors[0]).log_softmax(1), loader.dataset.tensors[1])
            for name, loader in sites.items()
        }
    pooled = judge(*(torch.cat(part) for part in zip(*outputs.values(), strict=True)))
    for metric in METRICS:
        assert run.callback_metrics[f"{stage}_{metric}"].item() == pytest.approx(pooled[metric].item(), abs=1e-5)
        for name, output in outputs.items():
            logged = run.callback_metrics[f"{stage}_{metric}/{name}"].item()
            assert logged == pytest.approx(judge(*output)[metric].item(), abs=1e-5)
    losses = [run.callback_metrics[f"{stage}_loss/{name}"].item() for name in sites]
    weighted = (10 * losses[0] + 6 * losses[1]) / 16
    assert run.callback_metrics[f"{stage}_loss"] == torch.tensor(weighted), "to the last bit, as a federation has it"
    table = capsys.readouterr().out
    assert f"{stage} records" in table
    assert "Charité Berlin" in table


def test_one_loader_without_sites(model: ImageClassifier) -> None:
    run = trainer()
    run.validate(model, site(0, 6), verbose=False)
    assert set(run.callback_metrics) == {f"val_{metric}" for metric in METRICS}


def test_the_training_loss_has_smoothing_and_class_weights_and_the_validation_loss_has_not() -> None:
    model = ImageClassifier("slim_resnet18", label_smoothing=0.2, class_weights=[1.0, 3.0])
    images, labels = next(iter(site(0, 4)))
    model.eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "log", lambda *_, **__: None)
        loss = model.training_step((images, labels), 0)
    expected = cross_entropy(model(images), labels, weight=torch.tensor([1.0, 3.0]), label_smoothing=0.2)
    assert torch.equal(loss, expected)
    run = trainer()
    run.validate(model, site(0, 4), verbose=False)
    assert run.callback_metrics["val_loss"].item() == pytest.approx(
        cross_entropy(model(images), labels).item(), abs=1e-5
    )
    assert "class_weights" not in model.state_dict()


def test_optimizer_and_schedule_are_the_given_ones() -> None:
    model = ImageClassifier(
        "slim_resnet18",
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.3),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2),
        lr_scheduler_interval="step",
        lr_scheduler_frequency=4,
    )
    configured: Any = model.configure_optimizers()
    assert configured["optimizer"].param_groups[0]["lr"] == 0.3
    schedule = configured["lr_scheduler"]
    assert (schedule["interval"], schedule["frequency"], schedule["monitor"]) == ("step", 4, "val_loss")
    assert isinstance(ImageClassifier("slim_resnet18").configure_optimizers(), torch.optim.Adam)


def test_a_plateau_is_found_by_the_metric_that_the_schedule_names() -> None:
    for monitor in ("val_auroc/a", "train_loss", "val_lss"):
        model = ImageClassifier("slim_resnet18", lr_scheduler=lambda of, name=monitor: ReduceLROnPlateau(of, name))
        if monitor == "val_lss":
            with pytest.raises(InputError, match="ReduceLROnPlateau monitors 'val_lss', which a fit does not log"):
                model.configure_optimizers()
        else:
            configured: Any = model.configure_optimizers()
            assert configured["lr_scheduler"]["monitor"] == monitor


def test_what_no_checkpoint_could_hold_or_the_model_lacks_is_refused(model: ImageClassifier) -> None:
    rooted = ImageClassifier("slim_resnet18", lr_scheduler=lambda of: torch.optim.lr_scheduler.LambdaLR(of, math.sqrt))
    with pytest.raises(InputError, match=r"no checkpoint could hold the state of LambdaLR: .*written in Python"):
        rooted.configure_optimizers()
    with pytest.raises(InputError, match="LearningRateFinder looks for a hyperparameter lr"):
        trainer(LearningRateFinder()).fit(model, site(0, 4), site(1, 4))


def test_a_checkpoint_gives_the_model_back_without_unpickling_code(model: ImageClassifier, tmp_path: Path) -> None:
    run = trainer(max_epochs=1, plugins=[SafetensorsCheckpointIO()])
    run.fit(model, site(0, 8), {"a": site(1, 4)})
    run.save_checkpoint(tmp_path / "model.ckpt", weights_only=False)
    again = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.eval()(images), model.eval()(images))
    warm = ImageClassifier("slim_resnet18", num_classes=2, weights=tmp_path / "model.ckpt")
    assert torch.equal(warm.eval()(images), model(images))
    with pytest.raises(InputError, match="does not fit this network: it has unknown tensors"):
        ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt", backbone="squeezenet1_1")


def test_predictions_are_probabilities(model: ImageClassifier) -> None:
    predictions: Any = trainer().predict(model, site(0, 6))
    assert torch.allclose(torch.cat(predictions).sum(1), torch.ones(6))
    model.eval()
    assert model.predict_step(torch.zeros(1, 3, 32, 32), 0).shape == (1, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet35"}, "no classification network"),
        ({"num_classes": 1}, "num_classes=1 is not at least 2"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"class_weights": [1.0]}, "are not 2 positive numbers"),
        ({"class_weights": [1.0, 0.0]}, "are not 2 positive numbers"),
        ({"weights": Path("nowhere.pth")}, "no file of weights at nowhere.pth"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageClassifier(**{"backbone": "slim_resnet18", **settings})


@pytest.mark.parametrize("monitor", ["val_los", "val_f1", "test_loss", "val_acc/mgh"])
def test_a_metric_that_is_not_logged_is_refused_before_training(model: ImageClassifier, monitor: str) -> None:
    for callback in (ModelCheckpoint(monitor=monitor), EarlyStopping(monitor)):
        run = trainer(callback)
        with pytest.raises(InputError, match=f"monitors '{monitor}', which a fit does not log; it logs val_loss"):
            run.fit(model, site(0, 4), {"a": site(1, 4)})
        assert run.global_step == 0


def test_a_batch_of_all_sites_is_refused(model: ImageClassifier) -> None:
    with pytest.raises(InputError, match="one batch of each of a, b: add a transfer callback"):
        trainer().fit(model, {"a": site(0, 4), "b": site(1, 4)}, {"a": site(1, 4)})


def test_other_classes_than_the_datas_are_refused() -> None:
    class Data(pl.LightningDataModule):
        num_classes = 5

        def train_dataloader(self) -> Any:
            return site(0, 4)

        def val_dataloader(self) -> Any:
            return site(0, 4)

    with pytest.raises(InputError, match="the data has 5 classes, the model 2: set num_classes=5"):
        trainer().fit(ImageClassifier("slim_resnet18"), Data())


def test_hyperparameters_are_plain_values(model: ImageClassifier) -> None:
    assert json.loads(json.dumps(dict(model.hparams)))["backbone"] == "slim_resnet18"


# -- ways to compute ---------------------------------------------------------------------------------------------------


def test_channels_last_is_another_layout_of_the_same_weights(model: ImageClassifier) -> None:
    pl.seed_everything(0, verbose=False)
    other = ImageClassifier("slim_resnet18", channels_last=True)
    assert other.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr,operator]
    assert fingerprint(other.state_dict()) == fingerprint(model.state_dict())
    images = torch.randn(4, 3, 64, 64)
    assert torch.allclose(other.eval()(images), model.eval()(images), atol=1e-5)
    assert not {"channels_last", "compiled"} & set(other.hparams)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
@pytest.mark.skipif(not hasattr(torch.compiler, "set_default_backend"), reason="torch cannot be told how to compile")
def test_a_compiled_network_is_compiled_for_each_shape(model: ImageClassifier) -> None:
    shapes = []

    def compile_nothing(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        shapes.append({len(tensor) for tensor in inputs if tensor.shape[1:] == (3, 32, 32)})
        return graph.forward

    torch.compiler.set_default_backend(compile_nothing)
    try:
        pl.seed_everything(0, verbose=False)
        other = ImageClassifier("slim_resnet18", compiled=True).eval()
        assert fingerprint(other.state_dict()) == fingerprint(model.state_dict())
        with torch.no_grad():
            for size in (4, 2, 3, 4):
                images = torch.randn(size, 3, 32, 32)
                assert torch.equal(other(images), model.eval()(images))
    finally:
        torch.compiler.set_default_backend(None)
        torch.compiler.reset()
    assert shapes == [{4}, {2}, {3}]  # or what was met before would decide how a step is computed
