"""How heuristics perform over sites: at their mean, at the worst of them, and at each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dist.report.bootstrap import parts, patients_drawn, percentiles, seeds_drawn
from lit_dist.report.intervals import FEWER_DRAWS, interval_of_both, weighted
from lit_dist.report.results import Predictions
from lit_dist.tasks.task import Task


def over_sites(found: Mapping[str, Predictions], task: Task, draws: int = FEWER_DRAWS) -> pd.DataFrame:
    """How each heuristic performs on all records, at the mean of the sites, and at the worst of them.

    The intervals of all records and of the mean are of a bootstrap over sites, then over the patients of each, and over
    seeds: what other sites of the kind could have given. For the mean, all sites but one are drawn, as of seeds. The
    interval of the worst site is over its patients and seeds. Where no resample differs, there is none.

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


def at_each_site(found: Mapping[str, Predictions], task: Task, draws: int = FEWER_DRAWS) -> pd.DataFrame:
    """How each heuristic performs at each site.

    Returns:
        A row a heuristic and site, by the task's first measure: ``label``, ``metric``, ``site``, ``n`` (test records),
        ``patients``, ``value`` (the mean over seeds), and ``low`` and ``high``, its 95 % interval over the site's
        patients and seeds; NaN where the measure is not defined there, or no resample differs.
    """
    rows = []
    within = task.measures[task.primary].low, task.measures[task.primary].high
    for label, each in found.items():
        site_of = each.table["site"].to_numpy()
        for site in each.table["site"].unique():
            own = np.flatnonzero(site_of == site)
            people = np.unique(each.patients[own], return_inverse=True)[1]
            once = each.values(task, task.primary, torch.ones(1, len(own), dtype=torch.float64), own)
            drawn = [each.values(task, task.primary, often, own) for often in patients_drawn(people, draws)]
            low, high = _wide(interval_of_both(np.concatenate(drawn, axis=1), within))
            named = {"label": label, "metric": task.primary, "site": site, "n": len(own), "patients": people.max() + 1}
            rows.append({**named, "value": _over_seeds(once), "low": low, "high": high})
    return pd.DataFrame(rows, columns=["label", "metric", "site", "n", "patients", "value", "low", "high"])


def _at_sites(found: Predictions, task: Task, draws: int) -> dict[str, Any]:
    """The row of a heuristic, but for its label; empty where its measure is defined at no site."""
    metric, site_of = task.primary, found.table["site"].to_numpy()
    places = {site: np.flatnonzero(site_of == site) for site in found.table["site"].unique()}
    once = torch.ones(1, len(found.targets), dtype=torch.float64)
    at = {site: _over_seeds(found.values(task, metric, once[:, rows], rows)) for site, rows in places.items()}
    at = {site: value for site, value in at.items() if not np.isnan(value)}
    if not at:
        return {}
    worst = (min if task.measures[metric].better == "max" else max)(at, key=lambda site: at[site])
    whole, mean, alone = [], [], []
    rng = np.random.default_rng(0)
    for some in parts(draws, len(found.targets)):
        seeds = seeds_drawn(found.seeds, some, rng).T
        sites = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), size=some)
        often = torch.empty(some, len(found.targets), dtype=torch.float64)
        own = {}
        for number, (site, rows) in enumerate(places.items()):
            often[:, rows] = _drawn(rng, found.patients[rows], sites[:, number])
            if site in at:
                patients = _drawn(rng, found.patients[rows], np.ones(some, np.int64))
                own[site] = weighted(found.values(task, metric, patients, rows), seeds)
        whole.append(weighted(found.values(task, metric, often), seeds))
        mean.append(weighted(np.array(list(own.values())), seeds_drawn(len(own), some, rng).T))
        alone.append(own[worst])
    values = np.array(list(at.values()))
    row: dict[str, Any] = {"sites": len(at), "spread": values.std(ddof=1) if len(at) > 1 else np.nan}
    pooled = _over_seeds(found.values(task, metric, once))
    for name, value, drawn in (("pooled", pooled, whole), ("mean", values.mean(), mean), ("worst", at[worst], alone)):
        low, high = _wide(percentiles(np.concatenate(drawn)))
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return {**row, "worst_site": worst}


def _over_seeds(values: NDArray[np.float64]) -> float:
    """The mean over the seeds for which a measure is defined, of (seeds, 1)."""
    return float(weighted(values, np.ones_like(values)).item())


def _wide(ends: tuple[float, float]) -> tuple[float, float]:
    """An interval; NaN where it has no width, which says nothing: one patient, or few who are all judged right."""
    return ends if ends[1] - ends[0] > 1e-9 else (np.nan, np.nan)


def _drawn(rng: np.random.Generator, patients: NDArray[np.int64], times: NDArray[np.int64]) -> Tensor:
    """Draw the patients of a site anew, as often as the site is drawn: (resamples, records)."""
    number = np.unique(patients, return_inverse=True)[1]
    several = number.max() + 1
    return torch.from_numpy(rng.multinomial(times * several, np.full(several, 1 / several))[:, number]).double()
