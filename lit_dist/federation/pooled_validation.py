"""The validation of all sites together: the mean of what each has found, and what of it is strange."""

from collections.abc import Mapping
from statistics import median

from lit_dist.federation.roster import Weights
from lit_dist.models.metrics import METRICS, POOLED, pool


def strange(values: Mapping[str, tuple[int, Mapping[str, float]]]) -> list[str]:
    """What of a validation is far from that of the other sites, as sentences.

    With four sites or more: a loss of more than three times, or less than a third of, the median of the others'; and
    more than ten times as many images.

    Args:
        values: The number of images and the metrics of each site.

    Example:
        >>> strange({site: (10, {"val_loss": 9.0 if site == "d" else 1.0}) for site in "abcd"})
        ["the val_loss of site 'd' is 9, and the median of the others' 1: look at its images, or at what it says"]
    """
    told = []
    numbers = {site: {"val_loss": metrics.get("val_loss"), "images": size} for site, (size, metrics) in values.items()}
    for name, most, least in (("val_loss", 3.0, 1 / 3), ("images", 10.0, 0.0)):
        known = {site: float(each[name]) for site, each in numbers.items() if each[name]}  # type: ignore[arg-type]
        for site, value in known.items() if len(known) > 3 else ():
            usual = median(other for who, other in known.items() if who != site)
            if not least * usual <= value <= most * usual:
                what = "number of images" if name == "images" else name
                told.append(
                    f"the {what} of site {site!r} is {value:.4g}, and the median of the others' {usual:.4g}: look at"
                    " its images, or at what it says"
                )
    return told


def pooled(values: Mapping[str, tuple[int, Mapping[str, float]]], weights: Weights = "images") -> dict[str, float]:
    """The metrics of a validation on every site.

    Those of all sites together are the means weighted by size, where that is what they are; an area under a curve, say,
    does not follow from those of the sites, and is left out.

    Args:
        values: The number of images and the metrics of each site.
        weights: What a site counts: its ``"images"``, or ``"equal"``.

    Example:
        >>> pooled({"a": (1, {"val_loss": 1.0, "val_loss/a": 1.0}), "b": (3, {"val_loss": 2.0, "val_loss/b": 2.0})})
        {'val_loss/a': 1.0, 'val_loss/b': 2.0, 'val_loss': 1.75}
    """
    with_images = [(size, metrics) for size, metrics in values.values() if size]
    result = {name: value for _, metrics in with_images for name, value in metrics.items() if "/" in name}
    not_means = set(METRICS) - set(POOLED)
    for name in with_images[0][1] if with_images else ():
        everywhere = all(name in metrics for _, metrics in with_images)
        if "/" not in name and everywhere and name.partition("_")[2] not in not_means:
            sizes = [size if weights == "images" else 1 for size, _ in with_images]
            result[name] = pool([metrics[name] for _, metrics in with_images], sizes)
    return result
