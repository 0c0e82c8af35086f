"""The rows of a run's ``metrics.csv``, over an interruption. Lightning's CSVLogger begins the file anew."""

import csv
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger

_NAME = "metrics.csv"
_ASIDE = "metrics.before.csv"


class RowCount:
    """Counts the rows of a logger's file, each time from where it had got to.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: CSVLogger) -> None:
        self.logger = logger
        self._header = b""
        self._lines = self._end = 0

    def saved(self) -> int:
        """Write what the logger holds back, and count."""
        self.logger.save()
        path = Path(self.logger.log_dir) / _NAME
        if not path.exists():
            return 0
        with path.open("rb") as file:
            header = file.readline()
            # The logger writes the file anew when a column is new; one that is shorter was put back.
            if header != self._header or path.stat().st_size < self._end:
                self._header, self._lines, self._end = header, 0, file.tell()
            file.seek(self._end)
            self._lines += sum(1 for _ in file)
            self._end = file.tell()
        return self._lines


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
