"""What must hold of a site's answer before the server uses it."""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from lit_dist.federation.validate_weights import check_received_weights
from lit_dist.federation.wire import Tree
from lit_dist.models.column_sums import Columns, Sums
from lit_dist.provenance.line import LONGEST
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_bounds import MALFORMED, is_count, is_hash, is_name, is_number, said, shown

ALIKE = ("lit_dist", "torch", "lightning", "processes", "features", "settings")
"""In what the sites must not differ."""

_FEW = 50  # names in a greeting
_MOST = 2**20  # batches of a site, images of a batch, or classes


def compare(found: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ``InputError``, with a table, if the sites' versions and hashes of settings differ."""
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
    return InputError(f"the answer of site {site!r} is refused: {said(str(why))}")


def check_greeting(site: str, answer: Any) -> None:
    """Raise ``InputError`` unless a site says its numbers of images, batches and classes, and its versions."""
    known = {"versions", "batches", "images", "batch_size", "classes"}
    counts = [answer.get("images"), answer.get("batches")]
    may_lack = [answer.get(name) for name in ("classes", "batch_size")]
    fits = answer.keys() <= known and all(is_count(count) and count for count in counts)
    fits = fits and all(count is None or (is_count(count) and 0 < count <= _MOST) for count in may_lack)
    if not fits or counts[1] > _MOST or not _is_text(answer.get("versions")):
        raise refused(site, "it does not say what records it has")


def check_settings(site: str, answer: Any) -> None:
    """Raise ``InputError`` unless a site says the hash of its settings, and no more."""
    if answer.keys() != {"settings"} or not is_hash(answer["settings"]):
        raise refused(site, "it does not say what its settings are")


def check_sums(site: str, answer: Any, columns: Columns, records: int) -> Sums:
    """The sums that a site has sent of its table's columns; ``InputError`` unless they can be of its records."""
    if answer.keys() != {"sums"}:
        raise refused(site, "it has other names than sums")
    try:
        return columns.check(answer["sums"], records)
    except InputError as error:
        raise refused(site, error) from None
    except MALFORMED as error:
        raise refused(site, f"its sums have another form ({type(error).__name__})") from None


def _is_text(values: Any) -> bool:
    if not isinstance(values, dict) or len(values) > _FEW:
        return False
    return all(is_name(name) and is_name(text) for name, text in values.items())


def check_metrics(metrics: Any, site: str, sites: Collection[str]) -> None:
    """Check a site's metrics by name; None stands for one that is not finite.

    Raises:
        InputError: If there are too many, a name cannot be printed or is another site's, or a value is not a number.
    """
    if not isinstance(metrics, dict) or len(json.dumps(list(metrics))) > most_of_metrics(len(sites)):
        raise InputError("it has more metrics than a line of the ledger holds")
    for name, value in metrics.items():
        if not is_name(name):
            raise InputError(f"the name of its metric {shown(name)} is too long, or cannot be printed")
        if name.rpartition("/")[2] in set(sites) - {site}:
            raise InputError(f"its metric {name!r} has the name of another site")
        if value is not None and not (isinstance(value, float) and is_number(value)):
            raise InputError(f"its metric {name!r} is {value!r}")


def most_of_metrics(sites: int) -> int:
    """How many characters the names of a site's metrics may have, such that those of all sites fit into one line."""
    return max(LONGEST // 4 // max(sites, 1), 1000)


def check_member(site: str, sent: Tree, answer: Any) -> Tree:
    """The weights of the model that a site has trained alone, from those that it was sent.

    Raises:
        InputError: If they are not finite ones of the same names and shapes.
    """
    if answer.keys() != {"state_dict"}:
        raise refused(site, "it has other things than a model")
    try:
        return check_received_weights(answer["state_dict"], sent)
    except (InputError, AttributeError, TypeError, RuntimeError) as error:
        raise refused(site, error) from None


def most_images(greeting: Tree, batches: int) -> int:
    """The most images that a site can have trained on in so many batches, by what it has greeted with."""
    processes = int(greeting["versions"].get("processes", "1"))
    a_pass = -(-greeting["images"] // processes) * processes  # a sampler fills the parts of processes up
    most: int = -(-batches // greeting["batches"]) * a_pass
    size = (greeting.get("batch_size") or 0) * processes
    return min(most, batches * size) if greeting["batches"] * size >= greeting["images"] else most


def check_validated(site: str, answer: Any, sites: Collection[str], task: Task | None) -> None:
    """Raise ``InputError`` unless a site says of its validation a number of images, and numbers by its own names."""
    images, metrics, sums = answer.get("images"), answer.get("metrics"), answer.get("sums")
    fits = answer.keys() == {"images", "metrics", "sums"} and is_count(images) and isinstance(metrics, dict)
    if not fits or not all(isinstance(name, str) and isinstance(value, float) for name, value in metrics.items()):
        raise refused(site, "it has no number of records and metrics")
    if not isinstance(sums, list) or (sums and (task is None or not task.fit_sums(sums, images))):
        raise refused(site, f"its sums are not those of {images} records of {f'a {task}' if task else 'any task'}")
    # A module of one's own may have a name such as "val/loss"; one that names another site is refused below.
    strange = [name for name in metrics if task and "/" in name and name.rpartition("/")[2] != site]
    if strange:
        raise refused(site, f"its metric {strange[0]!r} is not this site's")
    try:
        check_metrics({name: None if math.isnan(value) else value for name, value in metrics.items()}, site, sites)
    except InputError as error:
        raise refused(site, error) from None


def check_losses(what: str, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Raise ``InputError`` for a loss of NaN, which may be due to the model as well as to the site that says so.

    Args:
        what: The model.
        metrics: Those of a validation, by site.
    """
    # An area under a curve is NaN where there is only one class; a loss never is.
    lost = {
        site: name
        for site, values in metrics.items()
        for name, value in values.items()
        if math.isnan(value) and name.removesuffix(f"/{site}").endswith("loss")
    }
    if not lost:
        return
    told = ", ".join(f"{name!r} of site {site!r}" for site, name in lost.items())
    others = [site for site in metrics if site not in lost]
    why = (
        f"that of {', '.join(others)} is not, so look at the records there, or at what the site says"
        if others
        else "that is so at every site, so training has diverged: lower the learning rate and begin a new run"
    )
    raise InputError(f"{what}: {said(told, 300)} is NaN; {said(why, 500)}")
