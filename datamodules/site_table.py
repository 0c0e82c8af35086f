"""The table of sites that a run begins with."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lit_dist.terminal_table import print_table

MOST_CLASSES = 6
"""How many classes have a column each."""
_OTHERS = ("site", "images", "patients", "train", "val", "test", "majority")


def summarise(table: pd.DataFrame, sites: Sequence[str], class_names: Sequence[str]) -> pd.DataFrame:
    """Count what each site has.

    Args:
        table: One row an image, with the columns ``patient``, ``site``, ``split`` and ``label``.
        sites: The sites, in the order of the result's rows.
        class_names: The names of the labels from 0.

    Returns:
        One row a site: ``images``, ``patients``, the number of images of each split and class, and ``majority``, the
        share of the commonest class among the training images. Of more than ``MOST_CLASSES`` classes: how many the site
        has, and the number of images of the rarest and of the commonest of them.
    """
    rows = []
    table = table[["patient", "site", "split", "label"]]
    rows_of = table.groupby("site", sort=False).indices
    for site in sites:
        own = table.iloc[rows_of.get(site, [])]
        splits = own["split"].value_counts()
        train = own[own["split"] == "train"]
        rows.append(
            {
                "site": site,
                "images": len(own),
                "patients": own["patient"].nunique(),
                **{split: int(splits.get(split, 0)) for split in ("train", "val", "test")},
                **_counts(train["label"], class_names),
                "majority": round(train["label"].value_counts(normalize=True).max(), 3),
            }
        )
    return pd.DataFrame(rows)


def _counts(labels: "pd.Series[int]", class_names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    if len(class_names) <= MOST_CLASSES:
        names = [f"class {name}" if name in _OTHERS else name for name in class_names]
        return dict(zip(names, counts, strict=True))
    present = [count for count in counts if count]
    return {"classes": len(present), "fewest": min(present, default=0), "most": max(present, default=0)}


def print_sites(table: pd.DataFrame, sites: Sequence[str], class_names: Sequence[str], most: int = 24) -> None:
    """Print the summary; of more than ``most`` sites, the first ones.

    Args:
        table: As for ``summarise``.
        sites: As for ``summarise``.
        class_names: As for ``summarise``.
        most: The greatest number of rows.
    """
    summary = summarise(table, list(sites)[:most], class_names)
    title = "Sites (classes and majority rate: of the training images)"
    print_table(title, list(summary.columns), [list(map(str, row)) for row in summary.itertuples(index=False)])
    if len(sites) > most:
        print(f"... and {len(sites) - most} more sites")
