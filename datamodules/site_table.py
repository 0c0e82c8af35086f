"""The table of sites that a run begins with."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lit_dist.datamodules.splits import SPLITS
from lit_dist.tasks.task import Task
from lit_dist.utils.terminal_table import print_table

_MOST_SITES = 24  # that are printed
LeftOut = Mapping[tuple[str, str], int]


def summarise(table: pd.DataFrame, sites: Sequence[str], task: Task, left_out: LeftOut | None = None) -> pd.DataFrame:
    """Count what each site has.

    Args:
        table: One row an image, with the columns ``patient``, ``site``, ``split`` and ``label``.
        sites: The sites, in the order of the result's rows.
        task: What its labels are of.
        left_out: How many images of a site are not used, by site and reason.

    Returns:
        One row a site: ``images``, ``patients``, the number of images of each split, ``left out`` where something is,
        and what the task's ``summary`` says of the training images.
    """
    rows = []
    lost = {site: sum(count for (of, _), count in (left_out or {}).items() if of == site) for site in sites}
    patient = pd.factorize(table["patient"])[0]  # -1 where there is none
    split = pd.Index(SPLITS).get_indexer(pd.Index(table["split"]))
    label = table["label"].to_numpy()
    rows_of = table.groupby("site", sort=False).indices
    for site in sites:
        own = rows_of.get(site, np.empty(0, np.int64))
        images = np.bincount(split[own], minlength=len(SPLITS)).tolist()
        rows.append(
            {
                "site": site,
                "records": len(own),
                "patients": int((pd.unique(patient[own]) >= 0).sum()),
                **dict(zip(SPLITS, images, strict=True)),
                **({"left out": lost[site]} if any(lost.values()) else {}),
                **task.summary(label[own][split[own] == 0]),
            }
        )
    return pd.DataFrame(rows)


def shown_names(names: Sequence[str]) -> str:
    """The first few of some names.

    Example:
        >>> shown_names(list("abcde"))
        'a, b, c and 2 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def print_sites(table: pd.DataFrame, sites: Sequence[str], task: Task, left_out: LeftOut | None = None) -> None:
    """Print what ``summarise`` gives; of more than 24 sites, the first ones. Then, what is left out and why."""
    summary = summarise(table, list(sites)[:_MOST_SITES], task, left_out)
    title = "Sites (what stands behind test: of the training records)"
    print_table(
        title, list(summary.columns), [list(map(str, row)) for row in summary.itertuples(index=False, name=None)]
    )
    if len(sites) > _MOST_SITES:
        print(f"... and {len(sites) - _MOST_SITES} more sites")
    reasons: Counter[str] = Counter()
    for (_, reason), count in (left_out or {}).items():
        reasons[reason] += count
    if reasons:
        print("Left out: " + "; ".join(f"{count} records {reason}" for reason, count in reasons.most_common()))


def say_absent_classes(table: pd.DataFrame, only_site: str | None, task: Task) -> None:
    """Say which classes cannot be recognised, or are not tested; ``only_site`` is trained on, if it is one alone."""
    trained = table if only_site is None else table[table["site"] == only_site]
    for split, rows in (("train", trained), ("test", table)):
        labels = rows.loc[rows["split"] == split, "label"]
        absent = task.absent(labels)
        if not absent or labels.empty:
            continue
        which, names = f"{len(absent)} of {task.outputs} classes", shown_names(absent)
        if split == "train":
            rank_zero_warn(
                f"{which} have no training record ({names}), so that no record of them can be recognised; join"
                " classes, or take those with more records (--data.classes, --data.task)"
            )
        else:
            rank_zero_info(f"{which} have no test record ({names}), so the test says nothing about them")
