"""The work by Lightning alone: the loader is made anew for each epoch, and a callback empties the optimizer."""

import tempfile
import time

import lightning.pytorch as pl
from typing_extensions import override

from programs.module import EPOCHS, QUIET, Module
from programs.work import SITES, Loader, make_loader, report


class Data(pl.LightningDataModule):
    """Gives out the loader of the epoch's site."""

    def __init__(self) -> None:
        super().__init__()
        self.loaders = [make_loader(site) for site in range(SITES)]

    @override
    def train_dataloader(self) -> Loader:
        assert self.trainer is not None
        return self.loaders[self.trainer.current_epoch % SITES]


class Reset(pl.Callback):
    """Lets only weights travel."""

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            optimizer.state.clear()


if __name__ == "__main__":
    start = time.perf_counter()
    module, data = Module(), Data()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=EPOCHS,
            callbacks=[Reset()],
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=folder,
            **QUIET,
        )
        trainer.fit(module, data)
    report(module.network, time.perf_counter() - start)
