"""Which values a study's heuristics could have had with other test patients, other sites, and other seeds."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dist.report.results import Predictions, predictions
from lit_dist.report.summary import groups
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

_Values = NDArray[np.float64]
_AT_ONCE = 4_000_000
"""How many draws of records are held at a time."""


def percentiles(draws: _Values) -> tuple[float, float]:
    """The interval that 95 % of resamples lie in; NaN where the measure is defined in none."""
    known = draws[~np.isnan(draws)]
    return tuple(np.quantile(known, [0.025, 0.975])) if len(known) else (np.nan, np.nan)


def patients_drawn(patients: NDArray[np.int64], draws: int) -> Iterator[Tensor]:
    """Draw as many patients as there are, with all their records, which are not independent.

    Args:
        patients: The number of the patient of each record, from 0, (records,).
        draws: The number of resamples.

    Yields:
        How often each record is drawn, float64, (some of the resamples, records).
    """
    rng = np.random.default_rng(0)
    several = patients.max() + 1
    for some in _parts(draws, len(patients)):
        yield torch.from_numpy(rng.multinomial(several, np.full(several, 1 / several), size=some)[:, patients]).double()


def _parts(draws: int, records: int) -> Iterator[int]:
    most = max(1, min(500, _AT_ONCE // max(records, 1)))
    for start in range(0, draws, most):
        yield min(most, draws - start)


def compare(first: float, second: float, drawn: _Values) -> dict[str, float]:
    """Compare two values by their differences in the same resamples, (resamples,).

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).

    Returns:
        ``difference`` (first minus second), the ends of its 95 % interval ``low`` and ``high``, and the two-sided
        ``p``.

    Example:
        >>> found = compare(0.9, 0.5, np.linspace(0.2, 0.6, 101))
        >>> [round(value, 3) for value in found.values()]
        [0.4, 0.21, 0.59, 0.02]
    """
    drawn = drawn[~np.isnan(drawn)]
    low, high = percentiles(drawn)
    p = np.nan
    if len(drawn):
        p = min(1.0, 2 * max(min((drawn <= 0).mean(), (drawn >= 0).mean()), 1 / len(drawn)))
    return {"difference": first - second, "low": float(low), "high": float(high), "p": float(p)}


def holm(p: _Values) -> _Values:
    """The p values of several tests, adjusted for their number.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def all_predictions(study: Path, results: pd.DataFrame, task: Task) -> dict[str, Predictions]:
    """What each heuristic of ``results.csv`` has predicted, by its label.

    Raises:
        InputError: If runs of a heuristic were tested on different records.
    """
    return {label: predictions(study, runs, task) for label, runs in groups(results).items()}


def compare_pairs(found: Mapping[str, Predictions], task: Task, draws: int = 10_000) -> pd.DataFrame:
    """Compare any two heuristics on the same test records by a paired bootstrap over patients.

    Args:
        found: What each heuristic has predicted, by its label.
        task: What is predicted; its first measure is compared, and the one that is a mean over records.
        draws: The number of resamples.

    Returns:
        ``metric``, ``first``, ``second`` (labels), ``n``, the values of ``compare``, and ``p_adjusted`` for the number
        of pairs, by Holm's way.

    Raises:
        InputError: If heuristics were tested on different records.
    """
    rows: list[dict[str, Any]] = []
    for metric in found and dict.fromkeys(each for each in (task.primary, task.each) if each):
        values, draws_of = _values(found, task, metric, draws)
        pairs = [
            {"metric": metric, "first": one, "second": other, "n": len(found[one].targets)}
            | compare(values[one], values[other], draws_of[one] - draws_of[other])
            for one, other in combinations(found, 2)
        ]
        adjusted = holm(np.array([pair["p"] for pair in pairs]))
        rows += [{**pair, "p_adjusted": p} for pair, p in zip(pairs, adjusted, strict=True)]
    return pd.DataFrame(
        rows, columns=["metric", "first", "second", "n", "difference", "low", "high", "p", "p_adjusted"]
    )


def _values(
    found: Mapping[str, Predictions], task: Task, metric: str, draws: int
) -> tuple[dict[str, float], dict[str, _Values]]:
    """The value of each heuristic, and its values in the same resamples."""
    first = next(iter(found.values()))
    if any(not each.table.equals(first.table) for each in found.values()):
        raise InputError("heuristics of the study were tested on different records")
    once = torch.ones(1, len(first.targets), dtype=torch.float64)
    drawn: dict[str, list[_Values]] = {label: [] for label in found}
    for often in patients_drawn(first.patients, draws):
        for label, each in found.items():
            drawn[label].append(each.values(task, metric, often).mean(axis=0))
    values = {label: each.values(task, metric, once).mean().item() for label, each in found.items()}
    return values, {label: np.concatenate(parts) for label, parts in drawn.items()}


def resolution(pairs: pd.DataFrame, task: Task) -> str:
    """How small a difference the test records can show, as a line; empty where there are no pairs."""
    pairs = pairs[pairs["metric"] == task.primary].dropna(subset="low")
    if pairs.empty:
        return ""
    title, reach = task.measures[task.primary].title, ((pairs["high"] - pairs["low"]) / 2).median()
    line = (
        f"On these {pairs['n'].iloc[0]} test records a difference of {title} is known to about {reach:.2g} either way"
    )
    if (pairs["p_adjusted"] < 0.05).any():
        return f"{line}."
    return f"{line}: too few to tell any two of these heuristics apart."


def over_sites(found: Mapping[str, Predictions], task: Task, draws: int = 2000) -> pd.DataFrame:
    """How each heuristic performs on all records, at the mean of the sites, and at the worst of them.

    The intervals of all records and of the mean are of a bootstrap over sites, then over the patients of each, and over
    seeds: what other sites of the kind could have given. That of the worst site is over its patients and seeds.

    Returns:
        A row a heuristic, by the task's first measure: ``label``, ``metric``, ``sites`` (where the measure is defined),
        ``pooled``, ``mean`` (of the sites), each with ``_low`` and ``_high``, ``spread`` (the standard deviation over
        sites), ``worst_site``, ``worst``, ``worst_low``, ``worst_high``. What is of a site is the mean over runs.
    """
    rows = []
    for label, each in found.items():
        row = _at_sites(each, task, draws)
        if row:
            rows.append({"label": label, "metric": task.primary, **row})
    columns = ["label", "metric", "sites", "pooled", "pooled_low", "pooled_high", "mean", "mean_low", "mean_high"]
    return pd.DataFrame(rows, columns=[*columns, "spread", "worst_site", "worst", "worst_low", "worst_high"])


def _at_sites(found: Predictions, task: Task, draws: int) -> dict[str, Any]:
    """The row of a heuristic, but for its label; empty where its measure is defined at no site."""
    metric, site_of = task.primary, found.table["site"].to_numpy()
    places = {site: np.flatnonzero(site_of == site) for site in found.table["site"].unique()}
    once = torch.ones(1, len(found.targets), dtype=torch.float64)
    at = {site: found.values(task, metric, once[:, rows], rows).mean().item() for site, rows in places.items()}
    at = {site: value for site, value in at.items() if not np.isnan(value)}
    if not at:
        return {}
    worst = (min if task.measures[metric].better == "max" else max)(at, key=lambda site: at[site])
    whole, mean, alone = [], [], []
    rng = np.random.default_rng(0)
    for some in _parts(draws, len(found.targets)):
        seeds = rng.multinomial(found.seeds, np.full(found.seeds, 1 / found.seeds), size=some).T / found.seeds
        sites = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), size=some)
        often = torch.empty(some, len(found.targets), dtype=torch.float64)
        own = np.empty((some, len(places)))
        for number, rows in enumerate(places.values()):
            often[:, rows] = _drawn(rng, found.patients[rows], sites[:, number])
            own[:, number] = (found.values(task, metric, often[:, rows], rows) * seeds).sum(axis=0)
        whole.append((found.values(task, metric, often) * seeds).sum(axis=0))
        sums, counts = np.nansum(own * sites, axis=1), (sites * ~np.isnan(own)).sum(axis=1)
        mean.append(np.divide(sums, counts, out=np.full(some, np.nan), where=counts > 0))
        again = _drawn(rng, found.patients[places[worst]], np.ones(some, np.int64))
        alone.append((found.values(task, metric, again, places[worst]) * seeds).sum(axis=0))
    values = np.array(list(at.values()))
    row: dict[str, Any] = {"sites": len(at), "spread": values.std(ddof=1) if len(at) > 1 else np.nan}
    pooled = found.values(task, metric, once).mean().item()
    for name, value, drawn in (("pooled", pooled, whole), ("mean", values.mean(), mean), ("worst", at[worst], alone)):
        low, high = percentiles(np.concatenate(drawn))
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return {**row, "worst_site": worst}


def _drawn(rng: np.random.Generator, patients: NDArray[np.int64], times: NDArray[np.int64]) -> Tensor:
    """Draw the patients of a site anew, as often as the site is drawn: (resamples, records)."""
    number = np.unique(patients, return_inverse=True)[1]
    several = number.max() + 1
    return torch.from_numpy(rng.multinomial(times * several, np.full(several, 1 / several))[:, number]).double()
