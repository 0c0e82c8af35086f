"""A small module and small sites, for tests that look at the mechanics of training."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lit_dist import SafetensorsCheckpointIO
from lit_dist.callbacks import RunCheckpoint

SIZES = {"a": 4, "b": 6, "c": 2}
"""Batches of each site."""


class SmallModule(pl.LightningModule):
    """Counts the site of every batch it trains on, by the first feature."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.lr = lr
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.visited = ""
        self.rows: list[int] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        inputs = batch[0]
        self.visited += "abcdefgh"[int(inputs[0, 0])]
        self.rows += [int(row) for row in inputs[:, 1]]
        loss = self.network(inputs / 10).pow(2).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.network(batch[0] / 10).pow(2).mean(), on_epoch=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def inputs(site: int, batches: int, batch_size: int = 2) -> Tensor:
    """Rows of (site, row number, noise)."""
    rows = batches * batch_size
    noise = torch.randn(rows, generator=torch.Generator().manual_seed(site))
    return torch.stack([torch.full((rows,), float(site)), torch.arange(rows, dtype=torch.float), noise], dim=1)


def loader(site: int, batches: int, **kwargs: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(inputs(site, batches)), batch_size=2, **{"shuffle": True, **kwargs})


def loaders(sizes: Sequence[int] = tuple(SIZES.values()), **kwargs: Any) -> dict[str, DataLoader[Any]]:
    return {"abcdefgh"[site]: loader(site, size, **kwargs) for site, size in enumerate(sizes)}


class Stream(IterableDataset[Tensor]):
    """A site whose length is not known."""

    def __init__(self, site: int, batches: int) -> None:
        self.site, self.batches = site, batches

    def __iter__(self) -> Iterator[Tensor]:
        return iter(inputs(self.site, self.batches))


class SmallData(pl.LightningDataModule):
    """A datamodule that knows nothing of lit_dist."""

    def __init__(self, sizes: Sequence[int] = tuple(SIZES.values()), batch_size: int = 2, **kwargs: Any) -> None:
        super().__init__()
        self.sizes, self.batch_size, self.kwargs = sizes, batch_size, kwargs
        self.requests = 0

    def train_dataloader(self) -> Any:
        self.requests += 1
        return {
            "abcdefgh"[site]: DataLoader(
                TensorDataset(inputs(site, size)), batch_size=self.batch_size, **{"shuffle": True, **self.kwargs}
            )
            for site, size in enumerate(self.sizes)
        }

    def val_dataloader(self) -> Any:
        return loader(0, 2, shuffle=False)


class Tell(Callback):
    """Sends a signal to the process in some hook."""

    def __init__(self, hook: str, step: int, signal: int = signal.SIGTERM) -> None:
        self.step, self.signal = step, signal
        setattr(self, hook, self.tell)

    def tell(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking:
            os.kill(os.getpid(), self.signal)


def trainer(*callbacks: Callback, **kwargs: Any) -> pl.Trainer:
    """A quiet trainer on one CPU, which writes no pickles where a run is to be resumed."""
    defaults: dict[str, Any] = {
        "max_epochs": 6,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": Path.cwd(),
    }
    if any(isinstance(callback, RunCheckpoint) for callback in callbacks):
        defaults["plugins"] = [SafetensorsCheckpointIO()]
    return pl.Trainer(callbacks=list(callbacks), **{**defaults, **kwargs})


def ledger(folder: Path = Path()) -> list[dict[str, Any]]:
    """The lines of a run's ledger, as another program would read them."""
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def fit(*callbacks: Callback, data: Any = None, module: SmallModule | None = None, **kwargs: Any) -> SmallModule:
    """Train the small module, always from the same weights."""
    pl.seed_everything(0, verbose=False)
    module = module or SmallModule()
    data = SmallData() if data is None else data
    validation = None if isinstance(data, pl.LightningDataModule) else loader(0, 2, shuffle=False)
    trainer(*callbacks, **kwargs).fit(module, data, validation)
    return module
