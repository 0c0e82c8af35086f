"""Whether predictions are those of a run's test records."""

from collections import Counter
from pathlib import Path

import pandas as pd

from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError


def check_records(predicted: pd.DataFrame, path: Path, splits: Path, task: Task) -> None:
    """Raise ``InputError`` unless predictions are of the run's test records, each once, and with their labels."""
    table = pd.read_csv(splits, dtype=str, keep_default_na=False)
    table = table[table["split"] == "test"]
    known = {(own.site, own.image): task.parse_label(str(own.label)) for own in table.itertuples()}
    found = [((own.site, own.image), own.label) for own in predicted.itertuples()]
    wrong = [name for name, label in found if name not in known or known[name] != label]
    for names, what in ((wrong, "which is no test record of the run, or has another label there"),
                        ([name for name, often in Counter(name for name, _ in found).items() if often > 1], "twice"),
                        ([*known.keys() - {name for name, _ in found}], "which is not there")):  # fmt: skip
        if names:
            site, image = sorted(names)[0]
            raise InputError(
                f"{path} does not hold predictions of the test records in {splits}: {image!r} of {site!r}, {what}"
                f" ({len(names)} such records)"
            )
