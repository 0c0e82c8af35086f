"""Notices when Lightning changes the private parts that we touch."""

import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.utilities import CombinedLoader
from torchmetrics import MeanSquaredError, Metric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC
from torchmetrics.regression import PearsonCorrCoef

from lit_dist import ImageClassifier, InputError, SafetensorsCheckpointIO
from lit_dist.runs.lightning_cli import build
from lit_dist.utils.lightning_internals import (
    adds_up,
    check_early_stopping_after_validation,
    end_auto_requeue,
    given_hyperparameters,
    judged_source,
    judges_in_turn,
    mode_of,
    named_checkpoint,
    set_root,
    take_up_only_what_is_named,
    train_source,
)
from lit_dist.visits.site_loader import SiteLoader
from small import SmallData, SmallModule, fit, loader, loaders, trainer


@pytest.mark.parametrize("kind", ["datamodule", "loader", "module"])
def test_the_source_is_what_fit_was_given(kind: str) -> None:
    class Look(Callback):
        def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
            assert train_source(trainer) is source
            raise KeyError("seen")

    class Self(SmallModule):
        def train_dataloader(self) -> SiteLoader:
            return SiteLoader(loaders())

    source = {"datamodule": SmallData(), "loader": SiteLoader(loaders()), "module": Self()}[kind]
    module, data = (source, None) if isinstance(source, SmallModule) else (SmallModule(), source)
    validation = None if kind == "datamodule" else loader(0, 2)
    with pytest.raises(KeyError, match="seen"):
        trainer(Look()).fit(module, data, validation)


def test_a_trainer_is_given_another_folder(tmp_path: Path) -> None:
    made = trainer(logger=False)
    set_root(made, tmp_path / "other")
    assert made.default_root_dir == made.log_dir == str(tmp_path / "other")


def test_a_named_checkpoint_is_found_if_there_is_one() -> None:
    keeper = ModelCheckpoint(dirpath="kept", save_last=True)
    made = trainer(keeper)
    assert [named_checkpoint(made, word) for word in ("best", "last", "hpc")] == [None, None, None]
    made.fit(SmallModule(), loader(0, 2), loader(0, 2, shuffle=False))
    assert Path(str(named_checkpoint(made, "last"))).name == "last.ckpt"
    assert named_checkpoint(trainer(ModelCheckpoint(dirpath="kept", save_last=True)), "last") is not None


def test_a_fit_keeps_a_loaders_place_and_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Save(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.save_checkpoint(f"{trainer.global_step}.ckpt")

    trainer(Save(), max_epochs=1).fit(SmallModule(), SiteLoader({"a": loader(0, 3)}), loader(0, 1, shuffle=False))
    given: list[int] = []
    monkeypatch.setattr(SiteLoader, "resume_at", lambda _, drawn: given.append(drawn))
    trainer(max_epochs=1).fit(
        SmallModule(), SiteLoader({"a": loader(0, 3)}), loader(0, 1, shuffle=False), ckpt_path="1.ckpt"
    )
    assert given == [2]  # the second batch was drawn, and not trained on


def test_early_stopping_asks_this_attribute_when_to_look() -> None:
    looked: list[str] = []

    class Stop(EarlyStopping):
        def _run_early_stopping_check(self, trainer: pl.Trainer) -> None:
            looked.append("validation" if trainer.validating else "training")

    class After(Callback):
        def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
            check_early_stopping_after_validation(trainer)

    fit(Stop("val_loss"), After(), data=SiteLoader(loaders()), max_epochs=1)
    assert looked == ["validation"]
    looked.clear()
    fit(Stop("val_loss"), data=SiteLoader(loaders()), max_epochs=1)
    assert looked == ["training"]


def test_given_hyperparameters_are_those_of_a_module_that_the_command_line_makes() -> None:
    arguments = {"backbone": "slim_resnet18", "backbone_kwargs": {"width": 8}}
    model = {"class_path": "ImageClassifier", "init_args": arguments}
    command = build({"model": model, "data": {"class_path": "PhantomDataModule"}, "trainer": {"logger": False}})
    saved = command.config_dump["model"]
    with given_hyperparameters({"_class_path": saved["class_path"], **saved["init_args"]}):
        module = ImageClassifier(**arguments)
    assert dict(module.hparams) == dict(command.model.hparams)


def test_a_fit_begins_with_no_checkpoint_of_slurm_that_nobody_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SLURMEnvironment, "detect", lambda: True)
    (tmp_path / "hpc_ckpt_1.ckpt").write_text("of another run")
    made = trainer(default_root_dir=tmp_path, max_epochs=1, plugins=[SafetensorsCheckpointIO(), LightningEnvironment()])
    with pytest.raises(InputError, match=r"hpc_ckpt_1\.ckpt"):
        made.fit(SmallModule(), loader(0, 2), loader(0, 2, shuffle=False))
    take_up_only_what_is_named(made)
    made.fit(SmallModule(), loader(0, 2), loader(0, 2, shuffle=False))
    with pytest.raises(InputError, match=r"hpc_ckpt_1\.ckpt"):
        made.fit(SmallModule(), loader(0, 2), loader(0, 2, shuffle=False), ckpt_path="hpc")


def test_slurms_signal_is_listened_for_only_where_lightning_would() -> None:
    environment = SLURMEnvironment()
    assert end_auto_requeue(trainer(plugins=[environment])) == signal.SIGUSR1
    assert end_auto_requeue(trainer(plugins=[environment])) is None
    assert not environment.auto_requeue
    assert end_auto_requeue(trainer()) is None


@pytest.mark.parametrize("mode", ["sequential", "max_size_cycle", "min_size"])
def test_a_combined_loader_says_its_mode_and_a_validation_whether_it_comes_to_one_after_the_other(mode: Any) -> None:
    class Look(Callback):
        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            assert judges_in_turn(trainer) == (mode == "sequential")
            raise KeyError("seen")

    given = CombinedLoader({"a": loader(0, 1, shuffle=False)}, mode)
    assert mode_of(given) == mode
    with pytest.raises(KeyError, match="seen"):
        trainer(Look()).validate(SmallModule(), given)


@pytest.mark.parametrize("kind", ["datamodule", "loaders"])
def test_what_a_fit_validates_with_is_known_before_it_does(kind: str) -> None:
    class Look(Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            assert judged_source(trainer, "val") is given
            raise KeyError("seen")

    given: Any = SmallData() if kind == "datamodule" else {"a": loader(0, 1, shuffle=False)}
    with pytest.raises(KeyError, match="seen"):
        trainer(Look()).fit(SmallModule(), *([given] if kind == "datamodule" else [loader(0, 2), given]))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(MeanSquaredError(), True), (BinaryAccuracy(), True), (BinaryAUROC(), True), (PearsonCorrCoef(), False)],
)
def test_a_torchmetric_says_how_its_states_are_merged(metric: Metric, expected: bool) -> None:
    assert adds_up(metric) == expected
