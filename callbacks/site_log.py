"""SiteLog: what a module logs while it is validated or tested, taken by site instead of by Lightning."""

import copy
import inspect
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import adds_up
from lit_dist.utils.method_patch import MethodPatch
from lit_dist.visits.batch_size import batch_size

_LOG = inspect.signature(LightningModule.log)


@dataclass(slots=True)
class SiteFound:
    """What a module has logged of one site's records.

    Attributes:
        values: The values at the end, by the names that the module gave them.
        size: The number of records.
        metrics: Of those that are torchmetrics, their states, from which the value of all sites' records follows.
        means: The names of values of which only the mean over sites is known, since they are no mean over records.
    """

    values: dict[str, float] = field(default_factory=dict)
    size: int = 0
    metrics: dict[str, Metric] = field(default_factory=dict)
    means: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Numbers:
    """What was logged under a name: numbers, and how many records each is of."""

    reduce: str
    alone: bool  # logged by the first process only
    values: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def plain(self) -> tuple[list[float], list[int]]:
        return [float(value) for value in self.values], self.sizes


class SiteLog:
    """Stands in for ``self.log`` of a module, and gives for each site what Lightning would give for all loaders.

    Numbers are averaged over records (or added up and so on, as ``reduce_fx`` says), each batch counted by
    ``batch_size``, and torchmetrics are computed and reset at the end of each site. A loss that a step returns and does
    not log is ``<stage>_loss``.

    Args:
        module: The module; what modules within it log counts as well.
        stage: ``"val"`` or ``"test"``.
        processes: Whether each of several processes has a part of the records.
        sites: The names of all sites: where the module itself puts its site behind a name, it is taken off.

    Attributes:
        options: How each name goes to loggers and the progress bar.
    """

    def __init__(self, module: LightningModule, stage: str, processes: bool = False, sites: Iterable[str] = ()) -> None:
        self.options: dict[str, dict[str, Any]] = {}
        self._stage = stage
        self._processes = processes and torch.distributed.is_available() and torch.distributed.is_initialized()
        self._sites = list(sites)
        self._site = ""
        self._inner = [each for each in module.modules() if isinstance(each, LightningModule)]
        self._patches: list[MethodPatch] = []
        self.begin("")

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Take what is logged in the block."""
        self.open()
        try:
            yield
        finally:
            self.close()

    def open(self) -> None:
        """Begin to take what is logged."""
        for each in self._inner:
            self._patches.append(MethodPatch(each, "log", lambda *args, **kwargs: self._take(*args, **kwargs)))

    def close(self) -> None:
        """Leave the module as it was."""
        while self._patches:
            self._patches.pop().lift()

    # -- a site ------------------------------------------------------------------------------------------------------

    def begin(self, site: str) -> None:
        """Come to a site."""
        self._site = site
        self._numbers: dict[str, _Numbers] = {}
        self._metrics: dict[str, Metric] = {}
        self._found = SiteFound()
        self._states: dict[str, Metric] = {}
        self._size = 1
        self._returned: list[tuple[Tensor, int]] = []

    def count(self, batch: Any) -> None:
        """Take up a batch, whose values are logged from here on."""
        self._size = batch_size(batch)
        self._found.size += self._size

    def take_output(self, output: Any) -> None:
        """Take what a step has returned."""
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if isinstance(loss, Tensor) and loss.numel() == 1:
            self._returned.append((loss.detach().reshape(()), self._size))

    def values(self) -> dict[str, float]:
        """The values so far. They are to be asked for before the module's hook for the end resets its metrics."""
        for name, metric in self._metrics.items():
            if name not in self._states:
                self._states[name] = copy.deepcopy(metric)  # what it has computed is not yet kept in it
                self._found.values[name] = _computed(name, metric)
        self._gather()
        return self._found.values

    def end(self) -> SiteFound:
        """Leave the site, and reset its metrics."""
        if self._returned and not any("loss" in re.split(r"[/_]", name) for name in self._numbers):
            numbers = self._numbers[f"{self._stage}_loss"] = _Numbers("mean", alone=False)
            for value, size in self._returned:
                numbers.values.append(value)
                numbers.sizes.append(size)
        self.values()
        for metric in self._metrics.values():
            metric.reset()
        if self._processes:
            self._found.size = sum(_from_all(self._found.size))
        self._found.metrics = {name: state for name, state in self._states.items() if adds_up(state)}
        return self._found

    def _gather(self) -> None:
        """The values of all numbers, over all processes."""
        own = {name: each.plain() for name, each in self._numbers.items() if not each.alone}
        parts = _from_all(own) if self._processes else [own]
        for name, each in self._numbers.items():
            pairs = [each.plain()] if each.alone else [part[name] for part in parts if name in part]
            values = torch.tensor([value for part, _ in pairs for value in part], dtype=torch.float64)
            sizes = torch.tensor([size for _, part in pairs for size in part], dtype=torch.float64)
            self._found.values[name] = _single(_reduced(each.reduce, values, sizes))

    # -- what is logged ------------------------------------------------------------------------------------------------

    def _take(self, *args: Any, **kwargs: Any) -> None:
        bound = _LOG.bind(None, *args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        name, value = self._own_name(given["name"]), given["value"]
        if name is None:
            return
        if given["on_step"] and given["on_epoch"] and not isinstance(value, Metric):  # as Lightning has it
            once = {**given, "name": f"{name}_epoch", "on_step": False}
            self._take(**{option: once[option] for option in once if option != "self"})
        self.options[name] = {name: given[name] for name in ("prog_bar", "logger", "rank_zero_only")}
        if isinstance(value, Metric):
            self._metrics[name] = value
            self._note_mean(name)
            return
        try:
            number = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64).detach()
        except (TypeError, ValueError, RuntimeError):
            number = torch.empty(0)
        if number.numel() != 1:
            raise InputError(f"self.log({name!r}, ...) is given {type(value).__name__}, which is no single number")
        reduce = str(getattr(given["reduce_fx"], "__name__", given["reduce_fx"])).replace("avg", "mean")
        numbers = self._numbers.setdefault(name, _Numbers(reduce, given["rank_zero_only"]))
        if reduce not in _REDUCE:
            raise InputError(f"self.log({name!r}, reduce_fx={reduce}) is none of {', '.join(_REDUCE)}")
        if reduce != "mean":
            self._note_mean(name)
        numbers.values.append(number.reshape(()))
        numbers.sizes.append(self._size if given["batch_size"] is None else given["batch_size"])

    def _note_mean(self, name: str) -> None:
        if name not in self._found.means:  # in order: what processes log in unlike orders would be mixed up
            self._found.means.append(name)

    def _own_name(self, name: str) -> str | None:
        """The name without a site's; None if it is of another site, which has its own value."""
        begin, slash, end = name.rpartition("/")
        if not slash or end not in self._sites:
            return name
        return begin if end == self._site else None


_REDUCE = ("mean", "sum", "min", "max")


def _reduced(reduce: str, values: Tensor, sizes: Tensor) -> float:
    if reduce == "mean":
        return float((values * sizes).sum() / sizes.sum())
    return float(getattr(torch, reduce)(values))


def _computed(name: str, metric: Metric) -> float:
    value = metric.compute()
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError(f"self.log({name!r}, ...) is given a {type(metric).__name__}, whose value is no single number")
    return _single(float(value))


def _single(value: float) -> float:
    """A value in single precision, as Lightning has what crosses it: so it is the same wherever it is found."""
    return torch.tensor(value, dtype=torch.float32).item()


def _from_all(own: Any) -> list[Any]:
    """What each process has, in their order."""
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return found


def exact(states: Iterable[Metric]) -> float | None:
    """The value of a torchmetric of all sites' records, from its states at each; None if it cannot be computed."""
    states = list(states)
    whole = copy.deepcopy(states[0])
    whole.reset()
    try:
        for state in states:
            whole.merge_state(state)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The ``compute`` method of metric .* was called before")
            value = whole.compute()
    except (RuntimeError, TypeError, ValueError):
        return None
    return _single(float(value)) if isinstance(value, Tensor) and value.numel() == 1 else math.nan
