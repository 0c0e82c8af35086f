from pathlib import Path

from lit_dist.report.confusion import confusion
from lit_dist.report.intervals import all_predictions
from saved_runs import LABELS, POOR, TASK, results, saved


def test_each_record_of_each_run_is_counted_once() -> None:
    for run in ("one", "two"):
        saved(run, POOR, LABELS)
    table = confusion(all_predictions(Path(), results(("one", "central", 0), ("two", "central", 1)), TASK), TASK)
    counts = table.set_index(["true", "predicted"])["count"].to_dict()
    right = [image for image in POOR if (POOR[image] > 0.5) == LABELS[image]]
    assert counts["1", "1"] == 2 * sum(LABELS[image] == 1 for image in right) == 2
    assert counts["1", "0"] == 2 * 2
    assert counts["0", "1"] == 2 * 3
    assert sum(counts.values()) == 2 * 6
