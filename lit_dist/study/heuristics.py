"""What a study compares: five short names, and names of the user's own with callbacks behind them."""

import copy
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Literal, get_args

from lit_dist.runs.make_trainer import as_list
from lit_dist.study.callback_settings import callback_settings, check_together
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_errors import nearest
from lit_dist.utils.signatures import imported

Kind = Literal["central", "single", "ensemble", "single_weight_transfer", "cyclical_weight_transfer"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OWN = "callbacks"
"""The kind of a heuristic whose callbacks, one of them a transfer, say all."""

LABELS = {
    "central": "central",
    "single": "single institution",
    "ensemble": "ensemble",
    "single_weight_transfer": "single transfer",
    "cyclical_weight_transfer": "cyclical",
}
"""What tables and figures call the short names."""

_KEYS = ("name", "heuristic", "callbacks", "grid")
_LONGEST = 100
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Heuristic:
    """One of what a study compares.

    Attributes:
        name: A short name, or the name that the user gave, which tables and figures show.
        kind: The short name that says how it is trained, or ``OWN``.
        callbacks: Those that it has besides the study's own: each with ``class_path`` and ``init_args``.
    """

    name: str
    kind: str
    callbacks: list[dict[str, Any]]

    def plain(self) -> Any:
        """The form that a study's configuration has it in."""
        if self.name == self.kind:
            return self.name
        kind = {} if self.kind == OWN else {"heuristic": self.kind}
        return {"name": self.name, **kind, "callbacks": self.callbacks}

    @classmethod
    def of_plain(cls, given: Any) -> "Heuristic":
        """What ``plain`` has made that form of."""
        if isinstance(given, str):
            return cls(given, given, [])
        return cls(given["name"], given.get("heuristic", OWN), given["callbacks"])

    def beside(self, shared: Any) -> list[Any]:
        """The callbacks of all runs that it has, too: one of its own takes the place of one that it is a kind of."""
        own = {base.__name__ for each in self.callbacks for base in imported(each["class_path"]).__mro__}
        return [each for each in as_list(shared) if _class_of(each) not in own]


def read_heuristics(given: Sequence[Any], shared: Any = None) -> list[Heuristic]:
    """Read the setting ``heuristics``, with each combination of a grid as a heuristic of its own.

    Args:
        given: Short names, and mappings with ``name``, ``heuristic`` (a short name), ``callbacks`` and ``grid``.
        shared: The callbacks that all runs have, as the trainer's settings name them.

    Raises:
        InputError: If something is not a heuristic, names no class or a wrong setting, or stands twice.
    """
    if not given:
        raise InputError("heuristics is empty; name at least one")
    common = [callback_settings(each, f"trainer.callbacks[{n}]") for n, each in enumerate(as_list(shared))]
    found: list[Heuristic] = []
    taken: dict[str, str] = {}
    for number, entry in enumerate(given):
        where = f"heuristics[{number}]"
        for heuristic in [_short(entry, where)] if not isinstance(entry, Mapping) else _named(entry, where):
            _check_name(heuristic, where, taken)
            _check_new(heuristic, where, found)
            own, place = heuristic.kind == OWN, _place(where, heuristic)
            check_together(heuristic.callbacks, heuristic.beside(common), heuristic.kind, own, place)
            found.append(heuristic)
    return found


def _place(where: str, heuristic: Heuristic) -> str:
    return where if heuristic.name == heuristic.kind else f"{where} {heuristic.name!r}"


def _short(entry: Any, where: str) -> Heuristic:
    if entry not in KINDS:
        hint = nearest(entry, KINDS) if isinstance(entry, str) else ""
        raise InputError(
            f"{where} is {_shown(entry)}, which is not one of {', '.join(KINDS)}{hint}; a heuristic of your own has a"
            " name and callbacks"
        )
    return Heuristic(entry, entry, [])


def _named(entry: Mapping[Any, Any], where: str) -> Iterator[Heuristic]:
    for key in entry:
        if key not in _KEYS:
            raise InputError(f"{where} has {key!r}, but takes {', '.join(_KEYS)}{nearest(str(key), _KEYS)}")
    name, kind = entry.get("name"), entry.get("heuristic")
    if not isinstance(name, str):
        raise InputError(f"{where}.name is {_shown(name)}; give it the name for tables and figures, as text")
    if kind is not None and kind not in KINDS:
        raise InputError(f"{where}.heuristic is {_shown(kind)}, which is not one of {', '.join(KINDS)}")
    callbacks = as_list(entry.get("callbacks"))
    if kind is None and not callbacks:
        raise InputError(f"{where} {name!r} has no callbacks, and no heuristic out of {', '.join(KINDS)}: give one")
    for more, some in _combinations(entry.get("grid"), callbacks, where):
        made = [callback_settings(each, f"{where}.callbacks[{number}]") for number, each in enumerate(some)]
        yield Heuristic(", ".join([name, *more]), kind or OWN, made)


def _combinations(grid: Any, callbacks: list[Any], where: str) -> Iterator[tuple[list[str], list[Any]]]:
    """Each combination of a grid: what it adds to the name, and the callbacks."""
    if grid is None:
        yield [], callbacks
        return
    where = f"{where}.grid"
    if not isinstance(grid, Mapping) or not grid:
        raise InputError(f"{where} is {_shown(grid)}; give lists of values by their settings, such as FedProx.mu")
    for setting, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}.{setting} is {_shown(values)}; give a list of the values to compare")
        texts = [_shown(value) for value in values]
        if len(set(texts)) < len(texts):
            raise InputError(f"{where}.{setting} has a value twice: {', '.join(texts)}")
    if (count := prod(map(len, grid.values()))) > _MOST:
        raise InputError(f"{where} has {count} combinations, which is more than {_MOST}")
    lasts = [str(setting).rpartition(".")[2] for setting in grid]
    words = [last if lasts.count(last) == 1 else setting for setting, last in zip(grid, lasts, strict=True)]
    for values in product(*grid.values()):
        changed = copy.deepcopy(callbacks)
        for setting, value in zip(grid, values, strict=True):
            _put(changed, setting, value, where)
        yield [f"{word}={_shown(value)}" for word, value in zip(words, values, strict=True)], changed


def _put(callbacks: list[Any], setting: Any, value: Any, where: str) -> None:
    """Set a setting of the one callback whose class it names."""
    owner, dot, name = setting.partition(".") if isinstance(setting, str) else ("", "", "")
    classes = [_class_of(each) for each in callbacks]
    if not dot or classes.count(owner) != 1:
        several = classes.count(owner) > 1
        fault = "two are of that class" if several else f"there are {', '.join(classes) or 'none'}"
        raise InputError(f"{where} names {setting!r}; give CLASS.SETTING of one of its callbacks: {fault}")
    place = classes.index(owner)
    if not isinstance(callbacks[place], Mapping):
        callbacks[place] = {"class_path": callbacks[place]}
    here = callbacks[place]
    *parents, last = name.split(".")
    for parent in parents:
        here = _settings(here).get(parent)
        if not isinstance(here, dict):
            raise InputError(f"{where} names {setting!r}, but {owner} was given no {parent!r} with settings of its own")
    _settings(here)[last] = value


def _class_of(callback: Any) -> str:
    path = callback.get("class_path") if isinstance(callback, Mapping) else callback
    return str(path).rpartition(".")[2]


def _settings(here: dict[str, Any]) -> dict[str, Any]:
    """The settings of an object, or a plain dictionary itself."""
    if "class_path" not in here:
        return here
    if not isinstance(here.get("init_args"), dict):
        here["init_args"] = {}
    found: dict[str, Any] = here["init_args"]
    return found


def _check_name(heuristic: Heuristic, where: str, taken: dict[str, str]) -> None:
    """Refuse a name that could not be told from another, or not be shown."""
    name = heuristic.name
    if heuristic.kind != name:
        if not name.isprintable() or name != name.strip() or not name:
            raise InputError(f"{where}.name is {name!r}; give one that can be printed, without space around it")
        if len(name) > _LONGEST:
            raise InputError(f"{where}.name is {name[:30]!r}... of {len(name)} characters; give at most {_LONGEST}")
        others = {_folded(each): each for pair in LABELS.items() for each in pair}
        if (other := others.get(_folded(name))) is not None:
            raise InputError(f"{where}.name is {name!r}, but {other!r} is a short name's; give another")
    if (other := taken.get(_folded(name))) is not None:
        what = "stands twice" if other == name else f"differs from {other!r} in no more than its writing"
        raise InputError(f"{where}: the name {name!r} {what}; heuristics must name none twice")
    taken[_folded(name)] = name


def _check_new(heuristic: Heuristic, where: str, others: Sequence[Heuristic]) -> None:
    for other in others:
        same = other.kind == heuristic.kind and _shown(other.callbacks) == _shown(heuristic.callbacks)
        if same:
            raise InputError(f"{where}: {heuristic.name!r} has the same settings as {other.name!r}; leave one out")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _shown(value: Any) -> str:
    """A value as one line of YAML's flow style, which is JSON but for texts without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
