"""A report's table of what each heuristic does at each site."""

import pandas as pd

from lit_dist.models.metrics import shown
from lit_dist.report.html_table import escaped, folded, table, with_span
from lit_dist.report.looks import in_order
from lit_dist.report.tables import Tables

_MOST_COLUMNS, _MOST_CELLS = 6, 80


def sites_table(tables: Tables) -> str:
    """The value of the first measure at each site with its interval as HTML; the worst site of a heuristic is bold.

    Sites are columns where there are few; otherwise the main heuristics are. A large table is folded.
    """
    rows = tables.each_site
    if rows.empty or rows["site"].nunique() < 2:
        return ""
    measure = tables.task.measures[tables.task.primary]
    sites = in_order(rows["site"].unique())
    best = rows.groupby("label")["value"].transform("min" if measure.better == "max" else "max")
    cells = {}
    for row, worst in zip(rows.to_dict("records"), rows["value"] == best, strict=True):
        known = pd.notna(row["value"])
        text = with_span(shown(row["value"], measure), row["low"], row["high"]) if known else ""
        cells[row["label"], row["site"]] = f"<strong>{text}</strong>" if worst and text else text
    size = {str(row["site"]): str(row["n"]) for row in rows.to_dict("records")}
    named = {site: f"{escaped(site)}<br>n = {size[site]}" for site in sites}
    if len(sites) <= _MOST_COLUMNS:
        labels = rows["label"].unique().tolist()
        columns = {"heuristic": [escaped(label) for label in labels]}
        columns |= {named[site]: [cells.get((label, site), "") for label in labels] for site in sites}
    else:
        labels = [label for label in rows["label"].unique() if label in tables.main]
        columns = {"site": [escaped(site) for site in sites], "n": [size[site] for site in sites]}
        columns |= {escaped(label): [cells.get((label, site), "") for site in sites] for label in labels}
    text = table(pd.DataFrame(columns))
    title = f"{measure.title} at each of {len(sites)} sites"
    return folded(title, text) if len(sites) * len(labels) > _MOST_CELLS else f"<h3>{escaped(title)}</h3>{text}"
