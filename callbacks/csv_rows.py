"""The rows of a run's ``metrics.csv``, over an interruption. Lightning's CSVLogger begins the file anew."""

import csv
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger

_NAME = "metrics.csv"
_ASIDE = "metrics.before.csv"


def saved_rows(logger: CSVLogger) -> int:
    """Write what a logger holds back, and count the rows that its file has."""
    logger.save()
    path = Path(logger.log_dir) / _NAME
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def set_aside(folder: Path) -> None:
    """Put a run's rows out of the way of the logger that goes on with it."""
    path, aside = folder / _NAME, folder / _ASIDE
    if path.exists() and not aside.exists():  # one that is there was left by a resumption that was killed
        path.replace(aside)


def put_back(logger: CSVLogger, rows: int) -> None:
    """Give a logger the rows that were there when the checkpoint was written.

    Args:
        logger: The logger that goes on with the run.
        rows: The number of rows to keep; the visits after them are repeated.
    """
    aside = Path(logger.log_dir) / _ASIDE
    if not aside.exists():
        return
    with aside.open(newline="", encoding="utf-8") as file:
        kept = list(csv.DictReader(file))[:rows]
    for row in kept:
        step = int(row.pop("step"))
        logger.log_metrics({name: value for name, value in row.items() if value}, step)  # type: ignore[misc]
    logger.save()
    aside.unlink()
