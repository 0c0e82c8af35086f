"""The callbacks in a project that has none of what only data, studies and the command line need."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import importlib.machinery, importlib.metadata, sys

absent = {"albumentations", "cv2", "matplotlib", "pandas", "pydicom", "safetensors", "torchvision", "wandb"}
find, distribution = importlib.machinery.PathFinder.find_spec, importlib.metadata.distribution

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in absent else find(name, path, target)

def named(name):
    if name in absent:
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)

importlib.machinery.PathFinder.find_spec, importlib.metadata.distribution = find_spec, named

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import lit_dist
from lit_dist.callbacks import CyclicalWeightTransfer, FedProx, RunCheckpoint
from lit_dist import SafetensorsCheckpointIO

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

sites = {site: DataLoader(TensorDataset(torch.randn(8, 3)), 4) for site in ("a", "b")}
callbacks = [CyclicalWeightTransfer(every_n_epochs=1), FedProx(0.1), RunCheckpoint()]
quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
trainer = pl.Trainer(max_epochs=2, callbacks=callbacks, plugins=[SafetensorsCheckpointIO()], **quiet)
trainer.fit(Module(), sites)
assert lit_dist.Itinerary and lit_dist.read_checkpoint and lit_dist.SiteLoader
print(sorted(absent & set(sys.modules)), trainer.global_step)
"""


@pytest.mark.slow
def test_callbacks_work_without_the_packages_of_the_rest(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] 4"
