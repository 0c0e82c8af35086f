"""VisitLog: what a federation's visits were, for those who watch the server."""

from collections.abc import Sequence

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

from lit_dist.provenance.entry import Entry
from lit_dist.utils.progress import TimeLeft


class VisitLog:
    """Tells the console of each visit and how long the rest will take, and the run's loggers its metrics.

    Args:
        trainer: The run's trainer, with its loggers.
        sites: The names of all sites, in order.
        total: The visits of the whole run; None where their number is decided on the way.
        ended: How many of them an earlier command has made.
    """

    def __init__(self, trainer: pl.Trainer, sites: Sequence[str], total: int | None, ended: int = 0) -> None:
        self.loggers = trainer.loggers
        self.sites = list(sites)
        self._left = TimeLeft(total, ended) if total is not None else None

    def add(self, entries: Sequence[Entry], step: int) -> None:
        """Tell of visits that ended at an optimizer step; loggers count steps from 0."""
        for entry in entries:
            ended, left = entry.visit + 1, self._left
            so_far = f"; {ended} of {left.total} visits, {left.words(ended)}" if left else ""
            rank_zero_info(f"Visit {entry.visit} at {entry.site}: {entry.steps} steps, {entry.images} records{so_far}")
            place = {"visit": entry.visit, "cycle": entry.cycle, "site": self.sites.index(entry.site)}
            values = {name: float(value) for name, value in {**entry.metrics, **place}.items() if value is not None}
            for logger in self.loggers:
                logger.log_metrics(values, step - 1)
