"""The table of sites that a run begins with."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lit_dist.datamodules.splits import SPLITS
from lit_dist.utils.terminal_table import print_table

MOST_CLASSES = 6
"""How many classes have a column each."""
_MOST_SITES = 24  # that are printed
_OTHERS = ("site", "images", "patients", "train", "val", "test", "left out", "majority")
LeftOut = Mapping[tuple[str, str], int]


def summarise(
    table: pd.DataFrame, sites: Sequence[str], class_names: Sequence[str], left_out: LeftOut | None = None
) -> pd.DataFrame:
    """Count what each site has.

    Args:
        table: One row an image, with the columns ``patient``, ``site``, ``split`` and ``label``.
        sites: The sites, in the order of the result's rows.
        class_names: The names of the labels from 0.
        left_out: How many images of a site are not used, by site and reason.

    Returns:
        One row a site: ``images``, ``patients``, the number of images of each split, ``left out`` where something is,
        the number of training images of each class, and ``majority``, the share of the commonest class among them. Of
        more than ``MOST_CLASSES`` classes: how many the site has, and the number of images of the rarest and of the
        commonest of them.
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
        counts = np.bincount(label[own][split[own] == 0], minlength=len(class_names)).tolist()
        rows.append(
            {
                "site": site,
                "images": len(own),
                "patients": int((pd.unique(patient[own]) >= 0).sum()),
                **dict(zip(SPLITS, images, strict=True)),
                **({"left out": lost[site]} if any(lost.values()) else {}),
                **_counts(counts, class_names),
                "majority": round(max(counts) / images[0], 3) if images[0] else math.nan,
            }
        )
    return pd.DataFrame(rows)


def _counts(counts: list[int], class_names: Sequence[str]) -> dict[str, int]:
    if len(class_names) <= MOST_CLASSES:
        names = [f"class {name}" if name in _OTHERS else name for name in class_names]
        return dict(zip(names, counts, strict=True))
    present = [count for count in counts if count]
    return {"classes": len(present), "fewest": min(present, default=0), "most": max(present, default=0)}


def shown_names(names: Sequence[str]) -> str:
    """The first few of some names.

    Example:
        >>> shown_names(list("abcde"))
        'a, b, c and 2 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def print_sites(
    table: pd.DataFrame, sites: Sequence[str], class_names: Sequence[str], left_out: LeftOut | None = None
) -> None:
    """Print what ``summarise`` gives; of more than 24 sites, the first ones. Then, what is left out and why."""
    summary = summarise(table, list(sites)[:_MOST_SITES], class_names, left_out)
    title = "Sites (classes and majority rate: of the training images)"
    print_table(
        title, list(summary.columns), [list(map(str, row)) for row in summary.itertuples(index=False, name=None)]
    )
    if len(sites) > _MOST_SITES:
        print(f"... and {len(sites) - _MOST_SITES} more sites")
    reasons: Counter[str] = Counter()
    for (_, reason), count in (left_out or {}).items():
        reasons[reason] += count
    if reasons:
        print("Left out: " + "; ".join(f"{count} images {reason}" for reason, count in reasons.most_common()))


def say_absent_classes(table: pd.DataFrame, only_site: str | None, class_names: Sequence[str]) -> None:
    """Say which classes cannot be recognised, or are not tested; ``only_site`` is trained on, if it is one alone."""
    trained = table if only_site is None else table[table["site"] == only_site]
    for split, rows in (("train", trained), ("test", table)):
        present = set(rows.loc[rows["split"] == split, "label"])
        absent = [name for label, name in enumerate(class_names) if label not in present]
        if not absent or not present:
            continue
        which, names = f"{len(absent)} of {len(class_names)} classes", shown_names(absent)
        if split == "train":
            rank_zero_warn(
                f"{which} have no training image ({names}), so that no image of them can be recognised; join"
                " classes, or take those with more images (--data.classes, --data.task)"
            )
        else:
            rank_zero_info(f"{which} have no test image ({names}), so the test says nothing about them")
