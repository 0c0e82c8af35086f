"""VisitAveraging: the mean of the visits against a plain loop, and that training does not notice it."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from lit_dist import ImageClassifier, InputError, SafetensorsCheckpointIO, Visit, VisitCallback
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, SiteStatistics, VisitAveraging
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.datamodules import PhantomDataModule
from small import trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks"),
]


class Seen(VisitCallback):
    """Keeps a copy of the weights after each visit."""

    takes_part = False

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_visit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        self.seen.append(copy.deepcopy(pl_module.state_dict()))


def model() -> ImageClassifier:
    pl.seed_everything(0, verbose=False)
    return ImageClassifier("slim_resnet18", backbone_kwargs={"width": 8}, dropout=0.2)


def data() -> PhantomDataModule:
    return PhantomDataModule(sites=3, patients=48, size=32, batch_size=6)


def fitted(*callbacks: Callback, ckpt_path: Path | None = None, **kwargs: Any) -> tuple[pl.Trainer, ImageClassifier]:
    transfer = CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")
    made = trainer(transfer, *callbacks, **{"max_epochs": 6, "plugins": [SafetensorsCheckpointIO()], **kwargs})
    module = model()
    made.fit(module, datamodule=data(), ckpt_path=ckpt_path)
    return made, module


def mean(seen: list[dict[str, Tensor]], memory: int) -> dict[str, Tensor]:
    found = {name: each.double() for name, each in seen[0].items()}
    for number, weights in enumerate(seen[1:], 2):
        for name, each in weights.items():
            found[name] = found[name] + (each.double() - found[name]) / min(number, memory)
    return {name: each if seen[0][name].is_floating_point() else seen[-1][name] for name, each in found.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.Trainer, ImageClassifier, Seen]:
    seen = Seen()
    best = ModelCheckpoint(monitor="val_loss", filename="best")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        return *fitted(seen, VisitAveraging(), SiteStatistics(images=8), best), seen


@pytest.mark.slow
def test_the_mean_of_a_cycle_is_what_a_validation_judges(run: tuple[pl.Trainer, ImageClassifier, Seen]) -> None:
    made, _, seen = run
    wanted = mean(seen.seen, memory=3)
    averaged = model()
    averaged.load_state_dict(wanted)
    losses = trainer(SiteStatistics(images=8)).validate(averaged, datamodule=data(), verbose=False)[0]
    assert losses["val_loss"] == pytest.approx(made.callback_metrics["val_loss"].item(), abs=1e-6)
    assert {name for name in losses if "/" in name} <= made.callback_metrics.keys()


def test_training_and_what_travels_are_as_without(run: tuple[pl.Trainer, ImageClassifier, Seen]) -> None:
    _, without = fitted()
    assert fingerprint(run[1].state_dict()) == fingerprint(without.state_dict()) == fingerprint(run[2].seen[-1])


def test_a_checkpoint_holds_both(run: tuple[pl.Trainer, ImageClassifier, Seen]) -> None:
    best: Any = run[0].checkpoint_callback
    averaged = model()
    averaged.load_state_dict(VisitAveraging.weights_of(best.best_model_path))
    wanted = trainer(SiteStatistics(images=8)).test(averaged, datamodule=data(), verbose=False)[0]["test_loss"]
    by_callback = trainer(VisitAveraging(), SiteStatistics(images=8), plugins=[SafetensorsCheckpointIO()])
    found = by_callback.test(model(), datamodule=data(), ckpt_path=best.best_model_path, verbose=False)[0]
    assert found["test_loss"] == wanted
    without = trainer(SiteStatistics(images=8), plugins=[SafetensorsCheckpointIO()])
    plain = without.test(model(), datamodule=data(), ckpt_path=best.best_model_path, verbose=False)[0]
    assert plain["test_loss"] != wanted


@pytest.mark.slow
def test_a_longer_memory_and_a_resumed_run() -> None:
    seen = Seen()
    made, _ = fitted(seen, VisitAveraging(cycles=2), RunCheckpoint())
    averaging = next(each for each in made.callbacks if isinstance(each, VisitAveraging))  # type: ignore[attr-defined]
    found = averaging.travelling["average"]
    torch.testing.assert_close(found, {name: each for name, each in mean(seen.seen, 6).items() if name in found})
    fitted(VisitAveraging(cycles=2), RunCheckpoint(), max_epochs=3, default_root_dir="half")
    half = newest_checkpoint("half")
    resumed, _ = fitted(VisitAveraging(cycles=2), RunCheckpoint(), default_root_dir="half", ckpt_path=half)
    assert resumed.callback_metrics["val_loss"] == made.callback_metrics["val_loss"]


def test_mistakes_are_told(run: tuple[pl.Trainer, ImageClassifier, Seen]) -> None:
    with pytest.raises(InputError, match="cycles=0"):
        VisitAveraging(cycles=0)
    with pytest.raises(RuntimeError, match="VisitAveraging"):
        fitted(VisitAveraging(1), VisitAveraging(2))
    fitted(ModelCheckpoint(filename="without"), max_epochs=3)
    with pytest.raises(InputError, match="a run without VisitAveraging"):
        VisitAveraging.weights_of("checkpoints/without.ckpt")
