"""A study's summary and its values over sites, as the report and the tables for papers show them."""

import pandas as pd

from lit_dist.models.metrics import shown
from lit_dist.report.html_table import escaped, number, span, with_span
from lit_dist.tasks.task import Measure, Task


def summary_rows(summary: pd.DataFrame, metric: str, measure: Measure) -> pd.DataFrame:
    """A row a heuristic: one measure with its interval, and the difference from central."""
    rows = summary[summary["metric"] == metric]
    return pd.DataFrame(
        {
            "heuristic": rows["label"].map(escaped),
            "seeds": rows["seeds"].map(str),
            measure.title: [shown(value, measure) for value in rows["mean"]],
            "95 % interval": [span(*ends) for ends in zip(rows["low"], rows["high"], strict=True)],
            "sd": rows["sd"].map(number),
            "difference": rows["difference"].map(number),
            "its interval": [span(*ends) for ends in zip(rows["difference_low"], rows["difference_high"], strict=True)],
            "share of central": rows["share_of_central"].map(number),
        }
    )


def over_sites_rows(sites: pd.DataFrame, task: Task) -> pd.DataFrame:
    """A row a heuristic: the first measure on all records, at the mean of the sites, and at the worst one."""
    measure = task.measures[task.primary]
    columns = {"heuristic": sites["label"].map(escaped), "sites": sites["sites"].map(str)}
    for name, heading in (("pooled", "all together"), ("mean", "mean of sites"), ("worst", "worst site")):
        values = zip(*(sites[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)
        cells = [with_span(shown(value, measure), low, high) for value, low, high in values]
        columns[heading] = pd.Series(cells, sites.index)
    columns |= {"at": sites["worst_site"].map(escaped), "sd of sites": sites["spread"].map(number)}
    return pd.DataFrame(columns)
