"""The rows of a run's metrics.csv are counted without reading them again and again."""

from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from lit_dist.checkpoints.csv_rows import RowCount, check_rows
from lit_dist.utils.errors import InputError


def test_rows_are_counted_also_after_a_new_column() -> None:
    logger = CSVLogger(".", name="", version="", flush_logs_every_n_steps=1000)
    count = RowCount(logger)
    assert count.saved() == 0
    rows = 0
    for number in range(40):
        column = "loss" if number % 7 < 6 else "val_loss" if number < 30 else "last"
        logger.log_metrics({column: 0.5}, number)
        rows += 1
        if number % 3 == 0:
            assert count.saved() == rows
    assert count.saved() == rows == len(Path("metrics.csv").read_text().splitlines()) - 1


def test_only_new_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = CSVLogger(".", name="", version="", flush_logs_every_n_steps=10**6)
    count = RowCount(logger)
    for number in range(1000):
        logger.log_metrics({"loss": 0.5}, number)
    assert count.saved() == 1000
    path = Path("metrics.csv")
    header, rows = path.read_bytes().split(b"\n", 1)
    path.write_bytes(header + b"\n" + rows.replace(b"\n", b" "))  # who read it all would find one row
    logger.log_metrics({"loss": 0.5}, 1000)
    assert count.saved() == 1001


def test_the_columns_that_a_file_had_must_be_there() -> None:
    logger = CSVLogger(".", name="", version="")
    logger.log_metrics({"loss": 0.5}, 1)
    count = RowCount(logger)
    assert (count.saved(), sorted(count.columns)) == (1, ["loss", "step"])
    check_rows(Path(), 1, count.columns)
    with pytest.raises(InputError, match="it has 1 rows, and had 2"):
        check_rows(Path(), 2, count.columns)
    Path("metrics.csv").write_text(Path("metrics.csv").read_text().replace("loss", "lozz"))
    check_rows(Path(), 1)  # as a checkpoint of an earlier release has it
    with pytest.raises(InputError, match="its first line lacks the column 'loss'"):
        check_rows(Path(), 1, count.columns)
    Path("metrics.csv").write_text("step,loss\n1,2,3\n")
    with pytest.raises(InputError, match="line 2 has another number of values"):
        check_rows(Path(), 1)
