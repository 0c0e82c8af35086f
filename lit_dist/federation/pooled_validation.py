"""The validation of all sites together: the mean of what each has found, and what of it is strange."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from lit_dist.federation.roster import Weights
from lit_dist.models.metrics import logged_measures, pool_measures, pool_named
from lit_dist.tasks.task import Task


@dataclass(frozen=True, slots=True)
class SiteValues:
    """What a site has found.

    Attributes:
        images: The number of its images.
        metrics: Its metrics by name.
        sums: ``Task.sums`` of its images; empty where they do not leave it.
    """

    images: int
    metrics: Mapping[str, float]
    sums: Sequence[float] = ()


def strange(values: Mapping[str, SiteValues]) -> list[str]:
    """What of a validation is far from that of the other sites, as sentences.

    With four sites or more: a loss of more than three times, or less than a third of, the median of the others'; and
    more than ten times as many images.

    Args:
        values: What each site has found.

    Example:
        >>> strange({site: SiteValues(10, {"val_loss": 9.0 if site == "d" else 1.0}) for site in "abcd"})
        ["the val_loss of site 'd' is 9, and the median of the others' 1: look at its records, or at what it says"]
    """
    told = []
    numbers = {site: {"val_loss": each.metrics.get("val_loss"), "images": each.images} for site, each in values.items()}
    for name, most, least in (("val_loss", 3.0, 1 / 3), ("images", 10.0, 0.0)):
        known = {site: float(each[name]) for site, each in numbers.items() if each[name]}  # type: ignore[arg-type]
        for site, value in known.items() if len(known) > 3 else ():
            usual = median(other for who, other in known.items() if who != site)
            if not least * usual <= value <= most * usual:
                what = "number of records" if name == "images" else name
                told.append(
                    f"the {what} of site {site!r} is {value:.4g}, and the median of the others' {usual:.4g}: look at"
                    " its records, or at what it says"
                )
    return told


def pooled(found: Mapping[str, SiteValues], task: Task | None, weights: Weights = "images") -> dict[str, float]:
    """The metrics of a validation on every site.

    Those of all sites together follow from each site's as the task says, see ``lit_dist.models.metrics``; a metric that
    the task does not know is the mean weighted by size.

    Args:
        found: What each site has found.
        task: What the module is judged by; None if it logs for itself.
        weights: What a site counts: its ``"images"``, or ``"equal"``.

    Example:
        >>> from lit_dist.tasks.regression import Regression
        >>> one, other = SiteValues(1, {"val_loss": 1.0, "val_x": 1.0}), SiteValues(3, {"val_loss": 2.0, "val_x": 2.0})
        >>> pooled({"a": one, "b": other}, Regression())
        {'val_x': 1.75, 'val_loss': 1.75}
    """
    with_images = [each for each in found.values() if each.images]
    result = {
        name: value
        for site, each in found.items()
        for name, value in each.metrics.items()
        if each.images and name.endswith(f"/{site}")
    }
    if not with_images:
        return result
    sizes = [each.images if weights == "images" else 1 for each in with_images]
    of_all = [
        {name: value for name, value in each.metrics.items() if not name.endswith(f"/{site}")}
        for site, each in found.items()
        if each.images
    ]
    named = pool_named(of_all, sizes)
    if task is None:
        return result | named
    derived = {*logged_measures(task)}
    result |= {name: value for name, value in named.items() if name.partition("_")[2] not in derived}
    stage = next((name.partition("_")[0] for name in sorted(named)), "val")
    own = [{name.partition("_")[2]: value for name, value in each.items()} for each in of_all]
    sums = [torch.tensor(each.sums, dtype=torch.float64) for each in with_images if each.sums]
    if len(sums) < len(with_images):
        sums = []
    elif weights == "equal":
        sums = [each / of.images for each, of in zip(sums, with_images, strict=True)]
    return result | {f"{stage}_{name}": value for name, value in pool_measures(task, own, sizes, sums).items()}
