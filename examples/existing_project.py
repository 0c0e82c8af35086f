"""Cyclical weight transfer in a Lightning project that knows nothing of lit_dist: two lines are new.

The module and the datamodule stand for yours. The datamodule gives one training loader a site, as a dict; the callback
does the rest. Run it with ``python examples/existing_project.py``; a number after it is the number of processes.
"""

import sys

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lit_dist.callbacks import CyclicalWeightTransfer  # new

Loader = DataLoader[tuple[Tensor, ...]]


class YourModule(L.LightningModule):
    """Any LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self.network(inputs), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log the accuracy of a batch."""
        inputs, labels = batch
        accuracy = (self.network(inputs).argmax(dim=1) == labels).float().mean()
        self.log("val_accuracy", accuracy, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One cycle of the learning rate over the whole run, whatever the sizes of the sites."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class YourData(L.LightningDataModule):
    """Any datamodule whose ``train_dataloader`` gives one loader a site."""

    def train_dataloader(self) -> dict[str, Loader]:
        """One loader a site, of different sizes."""
        return {
            "mgh": make_loader(0, 320, shuffle=True),
            "ucsf": make_loader(1, 160, shuffle=True),
            "charite": make_loader(2, 240, shuffle=True),
        }

    def val_dataloader(self) -> Loader:
        """Validation, as ever."""
        return make_loader(3, 400)


def make_loader(seed: int, size: int, shuffle: bool = False) -> Loader:
    """Points with two classes; each seed shifts them, as hospitals' images differ."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % 2
    inputs = torch.randn(size, 8, generator=generator) + labels[:, None] + 0.5 * torch.randn(8, generator=generator)
    return DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=shuffle)


def main(devices: int = 1) -> L.Trainer:
    """Train as ever, with one callback more."""
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=12,
        callbacks=[CyclicalWeightTransfer(every_n_epochs=1)],  # new
        accelerator="cpu",
        devices=devices,
        log_every_n_steps=5,
        default_root_dir="runs/existing_project",
        enable_progress_bar=False,
    )
    trainer.fit(YourModule(), YourData())
    return trainer


if __name__ == "__main__":
    trainer = main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    trainer.print(
        f"validation accuracy {trainer.callback_metrics['val_accuracy']:.3f}; see {trainer.log_dir}/ledger.jsonl"
    )
