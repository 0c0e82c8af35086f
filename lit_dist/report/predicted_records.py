"""Whether predictions are those of a run's records."""

from collections import Counter
from pathlib import Path

import pandas as pd

from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

_CALLED = {"test": "test", "val": "validation"}


def labelled(splits: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The records of a run's splits, read as text, with labels as the task has them."""
    return splits.assign(label=[task.parse_label(text) for text in splits["label"]])


def check_records(predicted: pd.DataFrame, path: Path, table: pd.DataFrame, split: str) -> None:
    """See that predictions are of the records of a split, each once, and with their patients and labels.

    Args:
        predicted: The predictions.
        path: Their file.
        table: The records of the run's splits that it may have predicted.
        split: The split.

    Raises:
        InputError: If they are not.
    """
    own = table[table["split"] == split]
    known = {(site, image): rest for site, image, *rest in _rows(own)}
    found = [((site, image), rest) for site, image, *rest in _rows(predicted)]
    which = _CALLED[split]
    wrong = [name for name, rest in found if known.get(name) != rest]
    for names, what in ((wrong, f"which is no {which} record of the run, or has another patient or label there"),
                        ([name for name, often in Counter(name for name, _ in found).items() if often > 1], "twice"),
                        ([*known.keys() - {name for name, _ in found}], "which is not there")):  # fmt: skip
        if names:
            site, image = sorted(names)[0]
            raise InputError(
                f"{path} does not hold predictions of the {which} records of its run's splits: {image!r} of {site!r},"
                f" {what} ({len(names)} such records)"
            )


def _rows(table: pd.DataFrame) -> "zip[tuple[object, ...]]":
    return zip(*(table[column].tolist() for column in ("site", "image", "patient", "label")), strict=True)
