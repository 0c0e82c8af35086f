"""How the cost of a visit grows with the number of sites and of visits.

    python benchmarks/growth.py --repeats 3

A network of a few weights makes visits of one step, so that what lit_dist and Lightning do at a visit is nearly all of
the time. A run is cut into quarters of its visits: that the last quarter takes as long as the first shows that a visit
does not become dearer as the run goes on, and runs of many sites or visits are set beside those of few.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

import harness
from harness import Facts, Way
from lit_dist import SiteLoader
from lit_dist.callbacks import CyclicalWeightTransfer

RUNS = {  # sites, visits
    "4 sites, 1,000 visits": (4, 1000),
    "20 sites, 1,000 visits": (20, 1000),
    "100 sites, 1,000 visits": (100, 1000),
    "1,000 sites, 1,000 visits": (1000, 1000),
    "4 sites, 10,000 visits": (4, 10_000),
}
BASE = "4 sites, 1,000 visits"


class Module(pl.LightningModule):
    """A network of a few weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)

    @override
    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Clock(pl.Callback):
    """Notes the processor's time and the greatest memory at the end of each quarter of the visits."""

    def __init__(self, visits: int) -> None:
        self.quarter = max(visits // 4, 1)
        self.times: list[float] = []
        self.memory: list[int] = []

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.times.append(time.process_time())

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.quarter == 0:
            self.times.append(time.process_time())
            self.memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def run(sites: int, visits: int) -> Facts:
    """Make a run in this process.

    Returns:
        ``quarters``: milliseconds of the processor a visit, in each quarter of the run; ``growth``: megabytes of memory
        that the second half of the run added, by 1,000 visits; ``ledger``: bytes a visit.
    """
    images = TensorDataset(torch.randn(8, 8), torch.arange(8) % 2)
    clock = Clock(visits)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=visits,
            callbacks=[CyclicalWeightTransfer(every_n_epochs=1), clock],
            accelerator="cpu",
            logger=CSVLogger(folder, name="", version="run"),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        loaders = {f"site-{number}": DataLoader(images, batch_size=8) for number in range(sites)}
        trainer.fit(Module(), SiteLoader(loaders))
        ledger = next(Path(folder).rglob("ledger.jsonl")).stat().st_size
    quarters = [4000 * (later - earlier) / visits for earlier, later in pairwise(clock.times)]
    return {
        "quarters": quarters,
        "visit": statistics.mean(quarters),
        "growth": (clock.memory[-1] - clock.memory[1]) / 1024 / (visits / 2) * 1000,
        "ledger": ledger / visits,
    }


def main() -> None:
    """Make all runs in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(run(*options.only)))
        return
    before = harness.machine()
    words = [sys.executable, __file__, "--only"]
    found = harness.in_turns([Way(name, [*words, *map(str, size)]) for name, size in RUNS.items()], options.repeats)
    rows = [["", f"a visit / {BASE}", "last quarter / first", "MB of memory in 1,000 visits", "ledger, bytes a visit"]]
    for name, runs in found.items():
        visit = harness.spread(harness.ratios(found, name, BASE, "visit"))
        quarters = harness.spread([each["quarters"][-1] / each["quarters"][0] for each in runs])
        growth = harness.spread([each["growth"] for each in runs])
        rows.append([name, visit, quarters, growth, f"{harness.median(runs, 'ledger'):.0f}"])
    harness.write("growth", found, rows, before)


if __name__ == "__main__":
    main()
