"""The work by lit_dist: the ledger is written, and every hand-over proved."""

import tempfile
import time

import lightning.pytorch as pl

from lit_dist import SiteLoader
from lit_dist.callbacks import CyclicalWeightTransfer
from programs.module import EPOCHS, QUIET, Module
from programs.work import SITES, make_loader, report

if __name__ == "__main__":
    start = time.perf_counter()
    module = Module()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=EPOCHS,
            callbacks=[CyclicalWeightTransfer(every_n_epochs=1)],
            default_root_dir=folder,
            **QUIET,
        )
        trainer.fit(module, SiteLoader({f"site-{site}": make_loader(site) for site in range(SITES)}))
    report(module.network, time.perf_counter() - start)
