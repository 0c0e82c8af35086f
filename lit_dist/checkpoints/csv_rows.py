"""The rows of a run's ``metrics.csv``, over an interruption. Lightning's CSVLogger begins the file anew."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.utils.atomic_write import check_kind
from lit_dist.utils.errors import InputError

_NAME = "metrics.csv"
_ASIDE = "metrics.before.csv"
_Row = TypeVar("_Row")


class RowCount:
    """Counts the rows of a logger's file, each time from where it had got to."""

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
        check_kind(path)
        with path.open("rb") as file:
            header = file.readline()
            # The logger writes the file anew when a column is new; one that is shorter was put back.
            if header != self._header or path.stat().st_size < self._end:
                self._header, self._lines, self._end = header, 0, file.tell()
            file.seek(self._end)
            self._lines += sum(1 for _ in file)
            self._end = file.tell()
        return self._lines

    @property
    def columns(self) -> list[str]:
        """The names of the columns, as far as ``saved`` has last seen them."""
        return next(csv.reader([self._header.decode(errors="replace")]), [])


def check_rows(folder: Path, rows: int, columns: Sequence[str] = ()) -> None:
    """See that the rows that were there when the checkpoint was written can be put back; see ``kept_rows``.

    The file may have more columns since.
    """
    aside = folder / _ASIDE
    kept_rows(aside if aside.exists() else folder / _NAME, rows, lambda path: _read(path, rows, columns))


def kept_rows(path: Path, rows: int, read: Callable[[Path], Iterable[_Row]]) -> list[_Row]:
    """The rows of a table that were there when the checkpoint was written.

    Args:
        path: The table. One that is gone is said, and has none.
        rows: How many there were.
        read: Gives the first so many.

    Raises:
        InputError: If the file is damaged; it is untouched.
    """
    if not path.exists():
        if rows:
            rank_zero_warn(
                f"{path} is missing, so the {rows} rows that the run had are lost, unless you put back a copy"
                " before the run is resumed"
            )
        return []
    try:
        found = list(read(path))
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(path, str(error)) from None
    if len(found) < rows:
        raise _damaged(path, f"it has {len(found)} rows, and had {rows} when the checkpoint was written")
    return found


def set_aside(folder: Path) -> None:
    """Put a run's rows out of the way of the logger that resumes it."""
    path, aside = folder / _NAME, folder / _ASIDE
    if path.exists() and not aside.exists():  # one that is there was left by a resumption that was killed
        path.replace(aside)


def put_back(logger: CSVLogger, rows: int) -> None:
    """Give a logger the first of the rows that were set aside; the visits after them are repeated."""
    aside = Path(logger.log_dir) / _ASIDE
    if not aside.exists():
        return
    for step, row in list(_read(aside, rows)):
        logger.log_metrics(row, step)  # type: ignore[arg-type]
    logger.save()
    aside.unlink()


def _read(path: Path, rows: int, columns: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """The first rows of a file: the step and the values of each, as text."""
    check_kind(path)
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file, strict=True)
        if "step" not in (table.fieldnames or ()):
            raise ValueError("its first line does not name the columns, of which one is 'step'")
        names = table.fieldnames or ()
        wrong = [name for name in names if names.count(name) > 1 or "\ufeff" in name]
        if wrong:
            raise ValueError(f"its first line names the column {wrong[0]!r} twice, or after a byte order mark")
        missing = [name for name in columns if name not in names]
        if missing and rows:
            raise ValueError(f"its first line lacks the column {missing[0]!r}")
        for row in islice(table, rows):
            if None in row or None in row.values():
                raise ValueError(f"line {table.line_num} has another number of values than there are columns")
            step = int(row.pop("step"))
            values = {name: value for name, value in row.items() if value}
            for value in values.values():
                float(value)
            yield step, values


def _damaged(path: Path, why: str) -> InputError:
    """The message for a file whose rows cannot be put back."""
    return InputError(
        f"{path} is damaged: {why}. Put back a copy, or move it away, and the run continues without the rows it had"
    )
