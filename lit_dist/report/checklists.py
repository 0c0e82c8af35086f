"""Reporting checklists, filled in as far as a study knows; the rest is left to its authors.

Sources: CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 2024, https://doi.org/10.1148/ryai.240300) and
TRIPOD+AI (Collins et al., BMJ 2024, https://doi.org/10.1136/bmj-2023-078378), by their numbers. The items are named
here in other words, and stand in whole in those papers.
"""

import re
from collections.abc import Collection, Iterator
from importlib.resources import files
from io import StringIO
from pathlib import Path

import pandas as pd

from lit_dist.report.html_table import escaped, folded, table
from lit_dist.utils.errors import InputError

_METHODS = {
    "data": "Data",
    "heuristics": "Heuristics",
    "training": "Training",
    "evaluation": "Evaluation",
    "software": "Software and hardware",
}
_HEADINGS = {
    **dict.fromkeys(_METHODS, "Methods"),
    "performance": "Test ",
    "internal": "Test ",
    "over-sites": "Over sites",
    "external": "Over sites",
    "differences": "Differences",
    "operating-points": "At a threshold",
    "calibration": "Calibration",
    "table-1": "Table 1",
    "exclusions": "Table 1",
    "ensemble": "Methods",
    "repeat": "How to repeat it",
    "saliency": "Where the models look",
}
"""How the heading begins that a place of the checklists has."""
_FIGURES = ("confusion", "residuals")
_HEADING = re.compile(r'<h2 id="([\w-]+)">(?:<a[^>]*>)?(.*?)(?:</a>)?</h2>', re.DOTALL)
_FIGURE = re.compile(r'<figure id="(\w+)"><h3>(.*?)</h3>', re.DOTALL)


def filled(page: str, kinds: Collection[str], elsewhere: bool, earlier: Path) -> pd.DataFrame:
    """The items of both checklists, where a report has them, and what its authors have written.

    Args:
        page: The report, whose headings have names.
        kinds: The kinds of its heuristics.
        elsewhere: Whether models were tested at sites that took no part in their training.
        earlier: The study's ``checklists.csv``, whose column ``written`` is kept.

    Returns:
        ``checklist``, ``number``, ``part``, ``item``, ``place`` (HTML: links into the page; empty where the study knows
        nothing of it), ``add`` (what its authors have to add) and ``written``.

    Raises:
        InputError: If the file is there, and damaged.
    """
    lines = (files("lit_dist.report") / "checklist_items.csv").read_text(encoding="utf-8")
    items = pd.read_csv(StringIO(lines), dtype=str, keep_default_na=False)
    known = dict(_places(page))
    known.pop("internal" if elsewhere else "external", None)
    if "ensemble" not in kinds:
        known.pop("ensemble", None)
    found = [[known[each] for each in names.split() if each in known] for names in items.pop("places")]
    items["place"] = [", ".join(dict.fromkeys(places)) for places in found]
    items.loc[items["place"] == "", "add"] = ""
    written = _written(earlier) if earlier.is_file() else {}
    items["written"] = [written.get(key, "") for key in zip(items["checklist"], items["number"], strict=True)]
    return items


def _written(path: Path) -> dict[tuple[str, str], str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        # A spreadsheet writes semicolons where the comma is decimal.
        separator = ";" if text.startswith("checklist;") else ","
        table = pd.read_csv(StringIO(text), sep=separator, dtype=str, keep_default_na=False)
        return dict(zip(zip(table["checklist"], table["number"], strict=True), table["written"], strict=True))
    except UnicodeDecodeError:
        raise InputError(f"{path} is not in UTF-8: save it as CSV UTF-8, or move it away") from None
    except (ValueError, KeyError):  # a text that is no table, or has other columns
        raise InputError(
            f"{path} has not the columns checklist, number and written, so that what you have written there would be"
            " lost: mend it, or move it away"
        ) from None


def _places(page: str) -> Iterator[tuple[str, str]]:
    """The places that a report has, with a link to each."""
    headings = _HEADING.findall(page)
    for place, beginning in _HEADINGS.items():
        for name, title in headings:
            if title.startswith(beginning):
                part = _METHODS.get(place) or ("Heuristics" if place == "ensemble" else "")
                yield place, f'<a href="#{name}">{re.split("[:,]", title)[0]}{f": {part}" if part else ""}</a>'
                break
    for name, title in _FIGURE.findall(page):
        if name in _FIGURES:
            yield name, f'<a href="#{name}">Figures: {re.sub("<[^>]*>", "", title)}</a>'


def section(items: pd.DataFrame) -> str:
    """The checklists as HTML, folded; what nobody has written yet is a box to write in."""
    parts = []
    for name, own in items.groupby("checklist", sort=False):
        here, whole = (own["place"] != "").sum(), ((own["place"] != "") & (own["add"] == "")).sum()
        title = (
            f"{name}: of {len(own)} items {whole} in this report, {here - whole} in part, {len(own) - here} left to you"
        )
        shown = {
            "": own["number"],
            "part": own["part"].map(escaped),
            "item": own["item"].map(escaped),
            "in this report": own["place"],
            "to be written": own.apply(_to_write, axis=1),
        }
        parts.append(folded(title, f'<div class="checklist">{table(pd.DataFrame(shown))}</div>'))
    return "\n".join(parts)


def _to_write(item: "pd.Series[str]") -> str:
    if item["place"] and not item["add"] and not item["written"]:
        return ""
    words = escaped(item["written"] or item["add"])
    return f'<span class="{"written" if item["written"] else "blank"}" contenteditable>{words}</span>'


def plain(items: pd.DataFrame) -> pd.DataFrame:
    """The same as ``checklists.csv`` has it: places by their titles."""
    return items.assign(place=items["place"].map(lambda text: re.sub("<[^>]*>", "", text)))
