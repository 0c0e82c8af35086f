"""The main tables of a study for a paper: LaTeX with the packages booktabs and graphicx, in ``tables/``."""

import html
import re

import pandas as pd

from lit_dist.report.intervals import shown_intervals
from lit_dist.report.shown_pairs import pair_rows, planned
from lit_dist.report.shown_summary import over_sites_rows, summary_rows
from lit_dist.report.tables import Tables
from lit_dist.utils.atomic_write import replacing

_SPECIAL = {
    **{each: f"\\{each}" for each in "&%$#_{}"},
    **{each: f"{{{each}}}" for each in "[]*"},  # right behind a line's end they would be its arguments
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "`": r"\textasciigrave{}", "\N{NO-BREAK SPACE}": "~"},
}
_NOT_IN_T1 = "ĦħĸĿŀŉŦŧſ"
_HEAD = """\
% Needs \\usepackage{{booktabs,graphicx}}{letters}
\\begin{{table}}
  \\centering
  \\caption{{{caption}}}
  \\label{{tab:{label}}}
  \\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%
  \\begin{{tabular}}{{{columns}}}
    \\toprule
"""
_TAIL = """\
    \\bottomrule
  \\end{tabular}}
\\end{table}
"""


def latex_text(text: str) -> str:
    r"""A text that LaTeX sets as it is.

    Example:
        >>> print(latex_text(r"5 % of_all \x"))
        5 \% of\_all \textbackslash{}x
    """
    plain = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    apart = re.sub(r"([-,'])(?=\1)", "\\1\0", plain)  # two of them would be set as one sign
    return "".join(_SPECIAL.get(each, each) for each in apart).replace("\0", "{}")


def latex_table(rows: pd.DataFrame, caption: str, label: str) -> str:
    """A table of cells that are HTML without tags, the first column at the left and the others at the right.

    Args:
        rows: The table.
        caption: What stands above it, as text.
        label: What it is referred to by, behind ``tab:``.
    """
    cells = [[str(name) for name in rows], *rows.astype(str).to_numpy().tolist()]
    lines = ["    " + " & ".join(map(_cell, line)) + r" \\" for line in cells]
    body = "\n".join([lines[0], r"    \midrule", *lines[1:]]) + "\n"
    columns = "l" + "r" * (len(rows.columns) - 1)
    return _HEAD.format(letters=_needed(body), caption=latex_text(caption), label=label, columns=columns) + body + _TAIL


def _needed(text: str) -> str:
    """What LaTeX needs for the letters of a text, beside packages for tables."""
    if any(ord(each) > 0x17F or each in _NOT_IN_T1 for each in text):
        return ", and LuaLaTeX or XeLaTeX with a font that has all letters"
    return "" if text.isascii() else " and \\usepackage[T1]{fontenc}"


def _cell(cell: str) -> str:
    text = html.unescape(cell)
    if re.fullmatch(r"[-\d. to()]*\d[-\d. to()]*", text):
        return re.sub(r"-(?=\d)", "$-$", text)  # a minus, not a hyphen
    return latex_text(text).replace(r"\textless{} 0.", r"$<$ 0.")


def write_latex(tables: Tables) -> None:
    """Write the summary by each main measure, the pairs that the study is made for, and the values over sites."""
    task, summary = tables.task, shown_intervals(tables.summary)
    title = task.measures[task.primary].title
    made: dict[str, tuple[pd.DataFrame, str]] = {}
    for name in task.main:
        own = task.measures[name].title
        text = f"{own} on the test records of all sites: mean over seeds, 95 % interval, and difference from central."
        rows = summary_rows(summary, name, task.measures[name])
        made["summary" if name == task.primary else f"summary_{name}"] = (rows, text)
    pairs = int((tables.pairs["metric"] == task.primary).sum())
    text = f"Differences of {title}, first minus second; p is adjusted for all {pairs} pairs."
    made["pairs"] = (pair_rows(planned(tables)) if pairs else pd.DataFrame(), text)
    text = f"{title} over sites, each value with its 95 % interval."
    made["sites"] = (over_sites_rows(tables.sites, task), text)
    for name, (rows, caption) in made.items():
        path = tables.study / "tables" / f"{name}.tex"
        if rows.empty:
            path.unlink(missing_ok=True)  # of an earlier plan
            continue
        with replacing(path) as file:
            file.write(latex_table(rows.fillna(""), caption, name.replace("_", "-")).encode())
