"""Projects of the package ``pytorch_lightning``, whose classes these stand for."""

import sys
from abc import ABC
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback

from lit_dist import ImageClassifier, InputError, SafetensorsCheckpointIO
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.datamodules import PhantomDataModule
from lit_dist.utils.one_lightning import check_package
from small import SmallData, SmallModule, trainer

ADVICE = "write 'import lightning.pytorch as pl' in place of 'import pytorch_lightning as pl'"


class Other:
    __module__ = "pytorch_lightning.trainer"


class TheirCallback:
    """It has the hooks of a callback, as theirs have."""

    __module__ = "pytorch_lightning.callbacks"
    state_key = "theirs"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: {}


@pytest.mark.parametrize("part", [Other(), type("OfTheirs", (Other,), {"__module__": "project"})()])
def test_a_part_of_the_other_package_is_told_what_to_import(part: object) -> None:
    with pytest.raises(InputError, match=f"is one of pytorch_lightning; .*{ADVICE}"):
        check_package([part])
    check_package([None, pl.Callback(), SmallData()])


@pytest.mark.parametrize("ours", [lambda: CyclicalWeightTransfer(every_n_epochs=1), RunCheckpoint])
def test_their_callback_beside_ours_is_refused_before_training(ours: Any) -> None:
    theirs: Any = TheirCallback()
    fitting = trainer(theirs, ours())
    with pytest.raises(InputError, match=f"the TheirCallback is one of .*{ADVICE}"):
        fitting.fit(SmallModule(), SmallData())
    assert fitting.global_step == 0


MADE: list[Any] = [
    lambda: CyclicalWeightTransfer(every_n_epochs=1),
    RunCheckpoint,
    lambda: ImageClassifier("slim_resnet18"),
    lambda: PhantomDataModule(sites=2),
]


@pytest.mark.parametrize("make", MADE)
def test_where_the_other_package_is_imported_that_is_said(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_lightning", ModuleType("pytorch_lightning"))
    with pytest.warns(UserWarning, match=f"pytorch_lightning is imported; .*{ADVICE}"):
        make()


def test_their_trainer_takes_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric: Any = ModuleType("lightning_fabric.plugins")
    fabric.CheckpointIO = type("CheckpointIO", (ABC,), {})
    monkeypatch.setitem(sys.modules, "lightning_fabric.plugins", fabric)
    assert isinstance(SafetensorsCheckpointIO(), fabric.CheckpointIO)
    assert not issubclass(Callback, fabric.CheckpointIO)
