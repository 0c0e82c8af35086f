from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger

from ledger_lines import entry
from lit_dist.federation.visit_log import VisitLog


@pytest.mark.parametrize(
    ("total", "ended", "expected"),
    [
        (8, 0, ["; 1 of 8 visits, about 70 s left", "; 2 of 8 visits, about 60 s left"]),
        (8, 4, ["; 5 of 8 visits, about 30 s left", "; 6 of 8 visits, about 20 s left"]),
        (None, 0, ["", ""]),
    ],
    ids=["from the first", "resumed", "as many as it takes"],
)
def test_each_visit_is_told_with_the_time_that_is_left(
    total: int | None, ended: int, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("lit_dist.federation.visit_log.rank_zero_info", said.append)
    clock = iter([0.0, 10.0, 20.0])  # seconds
    monkeypatch.setattr("lit_dist.utils.progress.TimeLeft.__init__.__defaults__", (0, clock.__next__))
    logger = CSVLogger(tmp_path)
    log = VisitLog(SimpleNamespace(loggers=[logger]), ["a", "b"], total, ended)  # type: ignore[arg-type]
    for step, visit in ((4, ended), (8, ended + 1)):
        log.add([entry(visit)], step)
    assert said == [
        f"Visit {ended + number} at {site}: 4 steps, 28 records{left}"
        for number, (site, left) in enumerate(zip("ab", expected, strict=True))
    ]
    rows = [(row["step"], row["visit"], row["site"]) for row in logger.experiment.metrics]
    assert rows == [(3, ended, 0), (7, ended + 1, 1)]
