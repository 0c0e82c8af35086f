"""RunWatch: how far the run of a federation on this machine is, for the one who waits for it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.provenance.ledger import iter_entries
from lit_dist.runs.make_trainer import as_list
from lit_dist.utils.errors import InputError
from lit_dist.utils.progress import progressing
from lit_dist.visits.epoch_plan import EpochPlan

_EVERY = 2.0  # seconds between two looks


class RunWatch:
    """Counts the visits that the newest ledger below a folder has.

    Args:
        root: The folder that those of the loggers are relative to.
        loggers: The trainer's setting.
        resumed: Whether the run may have been begun before.
    """

    def __init__(self, root: Path, loggers: Any, resumed: bool) -> None:
        given = [each.get("init_args") or {} for each in as_list(loggers) if isinstance(each, dict)]
        self._folders = [
            root / str(each["save_dir"]) / str(each.get("name") or "") for each in given if "save_dir" in each
        ]
        self._since = 0.0 if resumed else time.time()
        self._visits, self._looked = 0, -_EVERY

    def visits(self) -> int:
        """The number of visits on record, looked up not more often than once in a while."""
        if time.monotonic() - self._looked >= _EVERY:
            self._looked = time.monotonic()
            with suppress(OSError, InputError):  # a line is being written, or a folder removed
                ledgers = [path for folder in self._folders for path in folder.glob(f"version_*/{LEDGER}")]
                newest = max(ledgers, key=lambda path: path.stat().st_mtime, default=None)
                if newest is not None and newest.stat().st_mtime >= self._since:
                    self._visits = sum(1 for _ in iter_entries(newest))
        return self._visits

    @contextmanager
    def shown(self, total: int | None) -> Iterator[Callable[[], None]]:
        """Show how many of the visits are done; nothing, where their number is not known before.

        Yields:
            What is to be called again and again.
        """
        if total is None or not self._folders:
            yield lambda: None
            return
        with progressing(f"{total} visits", total, self.visits()) as shown:
            yield lambda: shown.update(self.visits())


def planned_visits(transfer: WeightTransfer | None, sites: Sequence[str], epochs: int | None) -> int | None:
    """How many visits a run has; None where that is decided on the way."""
    plan = transfer.make_plan(transfer.itinerary(sites)) if transfer is not None else None
    if type(plan) is not EpochPlan or not epochs or epochs < 1:
        return None
    return len({stretch.visit for epoch in range(epochs) for stretch in plan.epoch(epoch)})
