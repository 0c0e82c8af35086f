"""What must hold of a site's answer before the server uses it."""

import json
import math
from collections.abc import Mapping
from typing import Any

from lit_dist.baton import check_weights, not_finite
from lit_dist.errors import InputError
from lit_dist.federation.parcel import Tree

ALIKE = ("lit_dist", "torch", "lightning", "processes", "settings")
"""In what the sites must not differ."""


def compare(found: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse sites that would train in different ways.

    Args:
        found: The versions and the hash of the settings of each site.

    Raises:
        InputError: If they differ; the message is a table.
    """
    names = [name for name in ALIKE if len({values.get(name) for values in found.values()}) > 1]
    if names:
        rows = [
            ["site", *names],
            *([site, *(str(values.get(n))[:12] for n in names)] for site, values in found.items()),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        raise InputError(f"the sites would not train alike, so the run does not begin:\n{table}")


def refused(site: str, why: object) -> InputError:
    """The error for an answer that is not used."""
    return InputError(f"the answer of site {site!r} is refused: {why}")


def is_count(value: object) -> bool:
    """Whether a value is a number of things that there can be."""
    return type(value) is int and 0 <= value < 2**31


def check_greeting(site: str, answer: Any) -> None:
    """Check what a site says of itself.

    Raises:
        InputError: If it is not numbers of images, batches and classes, and versions.
    """
    counts = [answer.get("images"), answer.get("batches")]
    may_lack = [answer.get(name) for name in ("classes", "batch_size")]
    fits = all(is_count(count) and count for count in counts)
    fits = fits and all(count is None or is_count(count) for count in may_lack)
    if not fits or not _is_text(answer.get("versions")) or not _is_json(answer):
        raise refused(site, "it does not say what images it has")


def check_settings(site: str, answer: Any) -> None:
    """Check what a site says of its settings.

    Raises:
        InputError: If it is not their hash.
    """
    if "settings" not in answer or not _is_text(answer):
        raise refused(site, "it does not say what its settings are")


def _is_text(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(text, str) for text in values.values())


def _is_json(answer: Any) -> bool:  # as which a greeting is kept
    try:
        json.dumps(answer)
    except (TypeError, ValueError):
        return False
    return True


def check_finite(weights: Tree, sent: Tree) -> None:
    """Check weights that a site gives.

    Args:
        weights: The weights.
        sent: Those that it was sent.

    Raises:
        InputError: If they are not finite ones of the same names and shapes.
    """
    check_weights(weights, sent, "it")
    name = not_finite(weights)
    if name is not None:
        raise InputError(f"the tensor {name!r} has values that are NaN or infinite")


def check_member(site: str, sent: Tree, answer: Any) -> Tree:
    """Check the model that a site has trained alone.

    Args:
        site: The site's name.
        sent: The weights that it began with.
        answer: What it gave back.

    Returns:
        The model's weights.

    Raises:
        InputError: If they are not finite ones of the same names and shapes.
    """
    weights: Tree = answer.get("state_dict")
    try:
        check_finite(weights, sent)
    except (InputError, AttributeError, TypeError) as error:
        raise refused(site, error) from None
    return weights


def check_validated(site: str, answer: Any) -> None:
    """Check what a site says of its validation.

    Raises:
        InputError: If it is not a number of images and numbers by name.
    """
    images, metrics = answer.get("images"), answer.get("metrics")
    fits = is_count(images) and isinstance(metrics, dict)
    if not fits or not all(isinstance(name, str) and isinstance(value, float) for name, value in metrics.items()):
        raise refused(site, "it has no number of images and metrics")
    strange = [name for name, value in metrics.items() if "/" in name and name.rpartition("/")[2] != site]
    if strange or any(math.isinf(value) for value in metrics.values()):
        raise refused(site, f"its metrics are {metrics}")
    # An area under a curve is NaN where there is only one class; a loss never is.
    lost = [name for name, value in metrics.items() if math.isnan(value) and name.partition("/")[0].endswith("loss")]
    if lost:
        raise refused(site, f"its {lost[0]!r} is NaN")
