"""What must hold of a site's answer before the server uses it."""

import math
from collections.abc import Mapping
from typing import Any

from lit_dist.baton import check_weights, fingerprint, not_finite
from lit_dist.errors import InputError
from lit_dist.federation.parcel import Tree
from lit_dist.ledger import Entry

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


def check_greeting(site: str, answer: Any) -> None:
    """Check what a site says of itself.

    Raises:
        InputError: If it is not numbers of images, batches and classes, and versions.
    """
    may_lack = [answer.get("classes") or 1, answer.get("batch_size") or 1]
    counts = [answer.get("images"), answer.get("batches"), *may_lack]
    programs = answer.get("versions")
    fits = all(type(count) is int and count > 0 for count in counts) and isinstance(programs, dict)
    if not fits or not all(isinstance(text, str) for text in programs.values()):
        raise refused(site, "it does not say what images it has")


def check_trained(site: str, sent: Tree, answer: Any, key: str) -> tuple[Tree, list[Entry]]:
    """Check what a site gave back for a baton.

    Args:
        site: The site's name.
        sent: The baton that it was sent.
        answer: What it gave back.
        key: The transfer callback's key.

    Returns:
        The next baton, and the lines of the ledger.

    Raises:
        InputError: If it is not what can have become of that baton at that site.
    """
    try:
        return _trained(site, sent, answer, key)
    except InputError as error:
        raise refused(site, error) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise refused(site, f"it has another form ({error!r})") from None


def _trained(site: str, sent: Tree, answer: Tree, key: str) -> tuple[Tree, list[Entry]]:
    baton, lines = answer["baton"], answer["entries"]
    if baton.keys() != sent.keys() or baton["callbacks"].keys() != {key}:
        raise InputError(f"it has {', '.join(sorted(baton))}, the baton {', '.join(sorted(sent))}")
    _check_finite(baton["state_dict"], sent["state_dict"])
    _check_optimizers(sent, baton)
    entries = [Entry.parse(line) for line in lines]
    before, after = (tree["callbacks"][key]["record"] for tree in (sent, baton))
    waiting = [Entry(**after["waiting"])] if after["waiting"] else []
    _check_record(site, before, after, [*entries, *waiting], entries)
    ends = (entries + waiting)[-1:] if after["ended"] else []
    came_in = fingerprint(sent["state_dict"])[0]
    first = (entries + waiting)[:1]
    if not _under_way(before) and first and first[0].sha256_in != came_in:
        raise InputError(f"its visit began with the weights {first[0].sha256_in[:12]}; it was sent {came_in[:12]}")
    went_out = fingerprint(baton["state_dict"])[0]
    if ends and ends[0].sha256_out != went_out:
        raise InputError(f"it has the weights {went_out[:12]}, but says that they are {ends[0].sha256_out[:12]}")
    if not baton["global_step"] >= sent["global_step"]:
        raise InputError(f"it goes back from step {sent['global_step']} to {baton['global_step']}")
    return baton, entries


def _check_finite(weights: Tree, sent: Tree) -> None:
    check_weights(weights, sent, "it")
    name = not_finite(weights)
    if name is not None:
        raise InputError(f"the tensor {name!r} has values that are NaN or infinite")


def _under_way(record: Mapping[str, Any]) -> bool:
    return record["visit"] is not None and not record["ended"]


def _check_record(
    site: str, before: Mapping[str, Any], after: Mapping[str, Any], visits: list[Entry], lines: list[Entry]
) -> None:
    expected = 0 if before["visit"] is None else before["visit"][0] + (1 if before["ended"] else 0)
    numbers = [entry.visit for entry in visits]
    if numbers != list(range(expected, expected + len(visits))):
        raise InputError(f"it tells of visits {numbers}, and visit {expected} was asked for")
    number, _, at = after["visit"]
    if at != site or any(entry.site != site for entry in visits):
        raise InputError(f"it tells of a visit at {at!r}")
    if number != (numbers[-1] if after["ended"] and numbers else expected + len(visits)):
        raise InputError(f"it is of visit {number}, and visit {expected} was asked for")
    if any(run != before["run"] for run in [after["run"], *(entry.run for entry in visits)]):
        raise InputError("it is of another run")
    for previous, entry in zip([before["head"], *(entry.sha256 for entry in lines)], lines, strict=False):
        if entry.previous != previous:
            raise InputError(f"its line of visit {entry.visit} does not follow the ledger's last")
    if after["head"] != (lines[-1].sha256 if lines else before["head"]):
        raise InputError("its ledger has another head")


def _check_optimizers(sent: Tree, baton: Tree) -> None:
    groups = [[state["param_groups"] for state in tree["optimizer_states"]] for tree in (sent, baton)]
    if [[group["params"] for group in each] for each in groups[0]] != [
        [g["params"] for g in each] for each in groups[1]
    ]:
        raise InputError("its optimizers have other parameters")
    weights = list(sent["state_dict"].values())
    shapes = {tuple(tensor.shape) for tensor in weights} | {()}
    for state in baton["optimizer_states"]:
        for values in state["state"].values():
            for name, value in values.items():
                if hasattr(value, "shape") and tuple(value.shape) not in shapes:
                    raise InputError(f"the optimizer's {name!r} has the shape {tuple(value.shape)}")
                if not_finite({name: value}):
                    raise InputError(f"the optimizer's {name!r} has values that are NaN or infinite")


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
        _check_finite(weights, sent)
    except (InputError, AttributeError, TypeError) as error:
        raise refused(site, error) from None
    return weights


def check_validated(site: str, answer: Any) -> None:
    """Check what a site says of its validation.

    Raises:
        InputError: If it is not a number of images and numbers by name.
    """
    images, metrics = answer.get("images"), answer.get("metrics")
    fits = isinstance(images, int) and images >= 0 and isinstance(metrics, dict)
    if not fits or not all(isinstance(name, str) and isinstance(value, float) for name, value in metrics.items()):
        raise refused(site, "it has no number of images and metrics")
    strange = [name for name, value in metrics.items() if "/" in name and name.rpartition("/")[2] != site]
    if strange or any(math.isinf(value) for value in metrics.values()):
        raise refused(site, f"its metrics are {metrics}")
