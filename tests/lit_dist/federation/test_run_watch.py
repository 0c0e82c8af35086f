import os
from pathlib import Path

import pytest

from ledger_lines import entry
from lit_dist.callbacks import CyclicalWeightTransfer, SingleWeightTransfer, WeightTransfer
from lit_dist.federation.run_watch import RunWatch, planned_visits
from lit_dist.provenance.ledger import Ledger


@pytest.mark.parametrize(
    ("transfer", "epochs", "visits"),
    [
        (CyclicalWeightTransfer(every_n_epochs=2), 12, 6),
        (CyclicalWeightTransfer(every_n_epochs=5), 12, 3),  # the last one is cut short
        (CyclicalWeightTransfer(every_n_steps=7), 4, 12),
        (CyclicalWeightTransfer(every_n_epochs=2), None, None),
        (SingleWeightTransfer(max_epochs_per_site=3), 12, None),
        (None, 12, None),
    ],
)
def test_the_visits_of_a_run_are_known_before_unless_they_are_decided_on_the_way(
    transfer: WeightTransfer | None, epochs: int | None, visits: int | None
) -> None:
    assert planned_visits(transfer, ["a", "b", "c"], epochs) == visits


@pytest.mark.parametrize("resumed", [False, True])
def test_the_newest_ledger_is_counted(resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.federation.run_watch._EVERY", 0.0)
    folder = tmp_path / "runs/cyclical"
    for version in range(2):
        (folder / f"version_{version}").mkdir(parents=True)
    Ledger(folder / "version_0/ledger.jsonl").add(entry(0))
    monkeypatch.setattr("time.time", lambda: (folder / "version_0/ledger.jsonl").stat().st_mtime + 1e-3)
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "cyclical"}}
    watch = RunWatch(tmp_path, [logger], resumed)
    assert watch.visits() == (1 if resumed else 0)
    ledger = Ledger(folder / "version_1/ledger.jsonl")
    for number in range(3):
        ledger.add(entry(number))
    os.utime(ledger.path, (2e9, 2e9))
    assert watch.visits() == 3
    with watch.shown(None) as look:
        look()
