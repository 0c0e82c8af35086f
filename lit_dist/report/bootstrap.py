"""Which values a study's heuristics could have had with other test patients, other sites, and other seeds."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

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
    for some in parts(draws, len(patients)):
        yield torch.from_numpy(rng.multinomial(several, np.full(several, 1 / several), size=some)[:, patients]).double()


def seeds_drawn(seeds: int, draws: int, rng: np.random.Generator) -> _Values:
    """Draw all seeds but one, so that a mean varies as much as means of so many seeds do; one seed is always drawn.

    Source: McCarthy and Snowden, "The bootstrap and finite population sampling", Vital and Health Statistics 2(95),
    1985: with n draws of n values the variance of a mean would be too small by (n - 1) / n, which matters for three.

    Returns:
        How often each seed is drawn, (draws, seeds).
    """
    return rng.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), size=draws).astype(np.float64)


def parts(draws: int, records: int) -> Iterator[int]:
    """How many resamples of so many records are held at a time, until there are all."""
    most = max(1, min(500, _AT_ONCE // max(records, 1)))
    for start in range(0, draws, most):
        yield min(most, draws - start)


def compare(first: float, second: float, drawn: _Values) -> dict[str, float]:
    """Compare two values by their differences in the same resamples, (resamples,).

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).

    Returns:
        ``difference`` (first minus second), the ends of its 95 % interval ``low`` and ``high``, and the two-sided
        ``p``; NaN where the two differ by the same in every resample, which tells nothing of chance.

    Example:
        >>> found = compare(0.9, 0.5, np.linspace(0.2, 0.6, 101))
        >>> [round(value, 3) for value in found.values()]
        [0.4, 0.21, 0.59, 0.02]
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or _constant(drawn):
        return _without_chance(first - second)
    low, high = percentiles(drawn)
    p = min(1.0, 2 * max(min((drawn <= 0).mean(), (drawn >= 0).mean()), 1 / len(drawn)))
    return {"difference": first - second, "low": float(low), "high": float(high), "p": float(p)}


def compare_over_seeds(
    first: float, second: float, drawn: _Values, of_seeds: _Values, seeds: int, most: float = np.inf
) -> dict[str, float]:
    """Compare two means over several seeds by Student's t, with the variance of their difference in resamples.

    Resamples of three seeds never leave the seeds' range, so that their percentiles find differences where there are
    none. The fewer the seeds, and the more of the variance is theirs, the fewer degrees of freedom there are.

    Args:
        first: A mean over the seeds.
        second: Another one.
        drawn: Their difference in resamples of patients and seeds, (resamples,).
        of_seeds: Their difference in resamples of seeds alone, (resamples,).
        seeds: The number of seeds; with one, this is ``compare``.
        most: The greatest difference that there can be.

    Returns:
        What ``compare`` gives.
    """
    drawn = drawn[~np.isnan(drawn)]
    if seeds < 2 or not len(drawn) or _constant(drawn):
        return compare(first, second, drawn)
    difference, variance = first - second, drawn.var()
    freedom, error = _freedom(variance, of_seeds, seeds), np.sqrt(variance)
    low, high = difference + error * stats.t.ppf([0.025, 0.975], freedom)
    p = 2 * stats.t.sf(abs(difference) / error, freedom)
    return {"difference": difference, "low": max(float(low), -most), "high": min(float(high), most), "p": float(p)}


def widened(drawn: _Values, of_seeds: _Values, seeds: int, within: tuple[float, float]) -> tuple[float, float]:
    """The 95 % interval of a mean over several seeds: percentiles, as much wider as Student's t is than the normal.

    Resamples of few seeds never leave the seeds' range, which holds the true mean of three in three of four studies.

    Args:
        drawn: The mean in resamples of patients and seeds, (resamples,).
        of_seeds: The mean in resamples of seeds alone, (resamples,).
        seeds: The number of seeds; with one, these are ``percentiles``.
        within: The least and the greatest value that there can be.
    """
    low, high = percentiles(drawn)
    if seeds < 2 or not high > low:
        return low, high
    centre, variance = float(np.nanmean(drawn)), float(np.nanvar(drawn))
    wider = stats.t.ppf(0.975, _freedom(variance, of_seeds, seeds)) / stats.norm.ppf(0.975)
    ends = centre - wider * (centre - low), centre + wider * (high - centre)
    return max(float(ends[0]), within[0]), min(float(ends[1]), within[1])


def _freedom(variance: float, of_seeds: _Values, seeds: int) -> float:
    """The degrees of freedom of a variance of which a part is that of few seeds.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 1946.
    """
    known = of_seeds[~np.isnan(of_seeds)]
    of_training = max(known.var() if len(known) else 0.0, 1e-12 * variance)
    return float((seeds - 1) * max(variance / of_training, 1.0) ** 2)


def _constant(drawn: _Values) -> bool:
    return bool(np.ptp(drawn) < 1e-9)


def _without_chance(difference: float) -> dict[str, float]:
    """What is known of a difference that no resample changes: that of equal predictions is none."""
    equal = abs(difference) < 1e-9
    ends = 0.0 if equal else np.nan
    return {"difference": difference, "low": ends, "high": ends, "p": 1.0 if equal else np.nan}


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
