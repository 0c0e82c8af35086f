"""Counts: what a site has done for all runs, in a file of its own, so that limits hold whatever a server says."""

import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from lit_dist.federation.refusal import Refusal
from lit_dist.utils.atomic_write import open_file, replacing
from lit_dist.utils.plain_bounds import is_count

COUNTS = "limits.json"
_TRACES = ("stays/*/*.stay", "alone/*/checkpoints/*")  # of what has been trained
_ESTIMATED = "estimated"  # in the file once sums of columns have left
_REMEMBERED = 1000  # validations, of which a repeat counts once


@dataclass(frozen=True, slots=True)
class Limits:
    """A site's limits; None sets none.

    Attributes:
        max_epochs: The greatest number of epochs of a run.
        max_visits: The greatest number of a run's visits here while the model travels.
        max_epochs_in_all: The greatest number of epochs of all runs together.
        max_visits_in_all: The greatest number of visits of all runs together.
        max_validations_in_all: The greatest number of weights, of all runs together, that are judged by images of this
            site.
        max_estimations_in_all: The greatest number of sums of a table's columns, each other than those before, that
            leave the site so that models of all runs together can be prepared.
    """

    max_epochs: int | None = None
    max_visits: int | None = None
    max_epochs_in_all: int | None = None
    max_visits_in_all: int | None = None
    max_validations_in_all: int | None = None
    max_estimations_in_all: int | None = None


@dataclass(frozen=True, slots=True)
class PartialFit:
    """What a site is asked to train.

    Attributes:
        run: The run's id.
        sha256: Tells it from any other: the same weights, progress and state give the same partial fit again.
        weights: The fingerprint of the weights that come in.
        place: The optimizer step, the epoch and the batch that it begins with.
        by_steps: Whether an epoch may have several visits.
        passes: How often a visit goes through the site's images in an epoch, rounded up; each counts as an epoch.
    """

    run: str
    sha256: str
    weights: str
    place: tuple[int, int, int]
    by_steps: bool = False
    passes: int = 1


class Counts:
    """Counts visits, epochs and validations, each before it begins.

    A partial fit that is repeated after a crash counts once. One that resumes a visit where another has left it counts
    as the same visit; a second one from the same place is another visit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / COUNTS

    def charge(self, fit: PartialFit, visit: int, epoch: int, limits: Limits) -> None:
        """Count an epoch of a visit before it is trained; one beyond the limits is not counted, but a ``Refusal``."""
        with self._open(limits) as counts:
            run = counts["runs"].setdefault(fit.run, {"by_steps": fit.by_steps, "legs": {}})
            fits = run["legs"]
            if fit.sha256 not in fits:
                fits[fit.sha256] = {"follows": _followed(fit, fits), "trained": [], "out": None, "passes": fit.passes}
            trained = fits[fit.sha256]["trained"]
            if [visit, epoch] in trained:
                return
            trained.append([visit, epoch])
            _check(limits, "max_visits", _visits(run), "the run would make {}")
            _check(limits, "max_epochs", _epochs(run), "the run would train {} here")
            for name, count in (("max_visits_in_all", _visits), ("max_epochs_in_all", _epochs)):
                _check(limits, name, sum(map(count, counts["runs"].values())), "all runs together would make {}")

    def end(self, fit: PartialFit, weights: str, place: tuple[int, int, int], epoch_over: bool) -> None:
        """Note where a partial fit has ended, from where its visit may be resumed."""
        with self._open(Limits()) as counts:
            counts["runs"][fit.run]["legs"][fit.sha256]["out"] = [weights, *place, epoch_over]

    def validate(self, sha256: str, limits: Limits) -> None:
        """Count a validation before it is made; one beyond the limits is a ``Refusal``."""
        with self._open(limits) as counts:
            if sha256 not in counts["remembered"]:
                counts["validations"] += 1
                counts["remembered"] = [*counts["remembered"], sha256][-_REMEMBERED:]
                _check(limits, "max_validations_in_all", counts["validations"], "all runs together would make {}")

    def estimate(self, sha256: str, limits: Limits) -> None:
        """Count sums of columns before they leave; the same again count once, and beyond the limits a ``Refusal``."""
        with self._open(limits) as counts:
            known = counts.setdefault(_ESTIMATED, [])
            if sha256 not in known:
                known.append(sha256)
                _check(limits, "max_estimations_in_all", len(known), "all runs together would take {}")

    @contextmanager
    def _open(self, limits: Limits) -> Iterator[dict[str, Any]]:
        """The counts, which are written where nothing is raised and something has changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            counts = self._read(limits)
            before = json.dumps(counts)
            yield counts
            if json.dumps(counts) != before:
                with replacing(self.path) as file:
                    file.write(json.dumps(counts).encode())

    def _read(self, limits: Limits) -> dict[str, Any]:
        if not os.path.lexists(self.path):  # a link to nowhere is not a new file
            limited = any(getattr(limits, each.name) is not None for each in fields(Limits))
            if limited and any(map(any, map(self.folder.glob, _TRACES))):
                raise Refusal(
                    f"its {COUNTS} is gone, in which it counts what its site.yaml limits; put back a copy, or write"
                    f" {json.dumps(_NOTHING)} into it to count from nothing"
                )
            return copy.deepcopy(_NOTHING)
        try:
            with open_file(self.path) as file:
                text = file.read().decode()
            counts = json.loads(text, object_pairs_hook=_without_doubles)
            _check_form(counts)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Refusal(f"its {COUNTS} is damaged or cannot be read; put back a whole copy") from None
        return counts  # type: ignore[no-any-return]


_NOTHING: dict[str, Any] = {"format": 1, "runs": {}, "validations": 0, "remembered": []}


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _check_form(counts: Any) -> None:
    """Raise an error of any kind where counts are not such as this program writes."""
    if counts.keys() - {_ESTIMATED} != _NOTHING.keys() or type(counts["format"]) is not int or counts["format"] != 1:
        raise ValueError
    if not is_count(counts["validations"]) or not all(type(each) is str for each in _list(counts["remembered"])):
        raise ValueError
    if not all(type(each) is str for each in _list(counts.get(_ESTIMATED, []))):
        raise ValueError
    for run in counts["runs"].values():
        order = [*run["legs"]]
        if type(run["by_steps"]) is not bool:
            raise ValueError
        for place, (sha256, fit) in enumerate(run["legs"].items()):
            trained = [[*map(is_count, _list(each))] == [True, True] for each in _list(fit["trained"])]
            follows, out = fit["follows"], fit["out"]
            passes = fit.get("passes", 1)
            known = passes and is_count(passes) and (follows is None or follows in order[:place])
            if not known or not trained or not all(trained):
                raise ValueError(sha256)
            if out is not None:
                weights, *numbers, over = _list(out)
                if type(weights) is not str or type(over) is not bool or [*map(is_count, numbers)] != [True] * 3:
                    raise ValueError(sha256)


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError
    return value


def _followed(fit: PartialFit, fits: Mapping[str, Any]) -> str | None:
    """The partial fit that this one resumes: of the same weights and step, further on, and not resumed before."""
    taken = {each["follows"] for each in fits.values()}
    for sha256, each in fits.items():
        if each["out"] is None or sha256 in taken:
            continue
        weights, step, epoch, batch, epoch_over = each["out"]
        further = fit.place[1] > epoch or (fit.place[1] == epoch and not epoch_over and fit.place[2] >= batch)
        if (weights, step) == (fit.weights, fit.place[0]) and further:
            return sha256
    return None


def _new(run: Mapping[str, Any]) -> Iterator[tuple[list[tuple[int, int]], list[tuple[int, int]], int]]:
    """What each partial fit, and the one that it resumed, has trained, as visits and epochs; and its passes in each."""
    fits = run["legs"]
    for fit in fits.values():
        before = fits[fit["follows"]]["trained"] if fit["follows"] else []
        trained = [(int(v), int(e)) for v, e in fit["trained"]]
        yield trained, [(int(v), int(e)) for v, e in before], fit.get("passes", 1)


def _visits(run: Mapping[str, Any]) -> int:
    return sum(len({v for v, _ in trained} - {v for v, _ in before}) for trained, before, _ in _new(run))


def _epochs(run: Mapping[str, Any]) -> int:
    times: Counter[tuple[int, int]] = Counter()
    for trained, before, passes in _new(run):
        times.update({each: passes for each in trained if each not in before})
    together: Callable[[int, int], int] = max if run["by_steps"] else int.__add__
    epochs: dict[int, int] = {}
    for (_, epoch), number in times.items():
        epochs[epoch] = together(epochs.get(epoch, 0), number)
    return sum(epochs.values())


def _check(limits: Limits, name: str, count: int, what: str) -> None:
    limit = getattr(limits, name)
    if limit is not None and count > limit:
        raise Refusal(f"its site.yaml allows {name}: {limit}, and {what.format(count)}")
