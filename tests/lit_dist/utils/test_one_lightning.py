"""Projects of the package ``pytorch_lightning``, whose classes these stand for."""

import subprocess
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


PROJECT = """
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from lit_dist import InputError
from lit_dist.callbacks import *

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(2, 1)
    def training_step(self, batch, batch_idx):
        return self.network(batch[0]).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

loaders = {site: DataLoader(TensorDataset(torch.randn(4, 2)), 2) for site in "ab"}
for make in (
    lambda: CyclicalWeightTransfer(every_n_epochs=1),
    lambda: FederatedAveraging(every_n_epochs=1),
    RunCheckpoint,
    SiteEvaluation,
    SiteStatistics,
):
    trainer = pl.Trainer(max_epochs=2, callbacks=[make()], logger=False, enable_checkpointing=False, accelerator="cpu")
    try:
        trainer.fit(Module(), loaders)
    except InputError as error:
        print(trainer.global_step, error)
"""


@pytest.mark.slow
def test_a_project_of_the_other_package_is_told_what_to_import() -> None:
    done = subprocess.run([sys.executable, "-c", PROJECT], capture_output=True, text=True, timeout=200)
    said = [line for line in done.stdout.splitlines() if line.startswith("0 the Trainer is one of pytorch_lightning;")]
    assert len(said) == 5, done.stderr
    assert all(ADVICE in line for line in said)


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
