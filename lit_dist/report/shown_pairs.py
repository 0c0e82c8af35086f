"""The pairs of heuristics in a report: those that a study is made for, and the rest where it is asked for."""

import pandas as pd

from lit_dist.report.html_table import escaped, folded, number, p_value, span, table
from lit_dist.report.main_heuristics import best_of
from lit_dist.report.summary import baseline
from lit_dist.report.tables import Tables
from lit_dist.study.heuristics import OWN
from lit_dist.tasks.task import Task

_TRANSFERS = ("single_weight_transfer", "cyclical_weight_transfer")


def pairs_section(tables: Tables) -> str:
    """The differences by the task's measures as HTML: those by the first one, and others folded."""
    pairs, task = tables.pairs, tables.task
    if pairs.empty:
        return "<p>There is but one heuristic.</p>"
    first = pairs[pairs["metric"] == task.primary]
    main = planned(tables)
    known = first["both_p_adjusted"].dropna()
    parts = [_none_differs(first, task)] if len(known) and (known >= 0.05).all() else [table(pair_rows(main))]
    parts.append(folded(f"All {len(first)} pairs", table(pair_rows(first))))
    for metric in pairs["metric"].unique():
        if metric != task.primary:
            rows = pairs[pairs["metric"] == metric]
            parts.append(folded(f"By {task.measures[metric].title}", table(pair_rows(rows))))
    return "\n".join(parts)


def planned(tables: Tables) -> pd.DataFrame:
    """The pairs of the first measure that a study is made for.

    They are each heuristic against central, and the best transfer against those that other callbacks make, such as
    federated averaging; where there is no central, the best heuristic against each other.
    """
    first = tables.pairs[tables.pairs["metric"] == tables.task.primary]
    runs = tables.runs
    kinds = {label: each["kind"].iloc[0] for label, each in runs.items()}
    against = baseline(runs)
    best = best_of(
        [label for label in kinds if against is None or kinds[label] in _TRANSFERS], tables.summary, tables.task
    )
    rivals = {label for label in kinds if against is None or kinds[label] == OWN}
    ends = first[["first", "second"]]
    of_best = (ends == best).any(axis=1) & ends.isin(rivals | {best}).all(axis=1)
    return first[(ends == against).any(axis=1) | of_best]


def _none_differs(pairs: pd.DataFrame, task: Task) -> str:
    least = pairs.sort_values("both_p").iloc[0]
    title = escaped(task.measures[task.primary].title)
    return (
        f"<p><strong>No pair of heuristics differs by {title}</strong> (adjusted p &lt; 0.05 in none of {len(pairs)})."
        f" The least p is that of {escaped(least['first'])} and {escaped(least['second'])}:"
        f" a difference of {number(least['difference'])} ({span(least['both_low'], least['both_high'])}),"
        f" p {p_value(least['both_p'])}, adjusted {p_value(least['both_p_adjusted'])}.</p>"
    )


def pair_rows(pairs: pd.DataFrame) -> pd.DataFrame:
    """A row a pair: the difference with its interval, and how often chance gives as much."""
    return pd.DataFrame(
        {
            "first": pairs["first"].map(escaped),
            "second": pairs["second"].map(escaped),
            "difference": pairs["difference"].map(number),
            "95 % interval": [span(*ends) for ends in zip(pairs["both_low"], pairs["both_high"], strict=True)],
            "p": pairs["both_p"].map(p_value),
            "adjusted p": pairs["both_p_adjusted"].map(p_value),
            "adjusted p, these models": pairs["p_adjusted"].map(p_value),
        }
    )
