"""Any values as JSON that is the same in every process."""

import datetime
import enum
import functools
import json
import random
import re
import types
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_dist import ImageClassifier, Itinerary, SiteEnsemble, SiteLoader
from lit_dist.callbacks import CyclicalWeightTransfer, SingleWeightTransfer
from lit_dist.datamodules import DeviceAugmentation, ImageNetDataModule, MammographyDataModule
from lit_dist.provenance.plain_values import plain_json
from lit_dist.utils.errors import InputError


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int = 1


class Thing:
    __slots__ = ("__dict__", "b")

    def __init__(self, a: Any, b: Any = None) -> None:
        self.a, self.b = a, b


class Listed(list[int]):
    def __init__(self, a: float) -> None:
        super().__init__([1])
        self.a = a


class Loss(torch.nn.Module):
    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma


def filled(value: float, buffer: bool = False) -> torch.nn.Module:
    module = torch.nn.Module()
    if buffer:
        module.register_buffer("weight", torch.full((2,), value))
    else:
        module.weight = torch.nn.Parameter(torch.full((2,), value))
    return torch.nn.Sequential(module)


def nested(value: float, depth: int = 8) -> Thing:
    return Thing(nested(value, depth - 1) if depth else value)


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(filled(1.0).parameters(), lr=lr)


def inherited(value: float) -> Any:
    return type("Inherited", (Thing,), {"rate": value})(1)


MADE: dict[str, Any] = {
    "an attribute of a module": Loss,
    "one within modules": lambda v: torch.nn.ModuleList([torch.nn.Dropout(v)]),
    "a module's parameter": filled,
    "a module's buffer": lambda v: filled(v, buffer=True),
    "a weighted loss": lambda v: torch.nn.CrossEntropyLoss(weight=torch.tensor([v, 1.0])),
    "a class attribute": inherited,
    "deep objects": nested,
    "a lambda's tuple": lambda v: (lambda e: e in (1, 2)) if v == 0.1 else (lambda e: e in (3, 4)),
    "a lambda's set": lambda v: (lambda e: e in {1, 2}) if v == 0.1 else (lambda e: e in {3, 4}),
    "a lambda in a lambda": lambda v: (lambda: (lambda: 1)()) if v == 0.1 else (lambda: (lambda: 2)()),
    "a distribution": lambda v: torch.distributions.Normal(0.0, v),
    "a generator": lambda v: torch.Generator().manual_seed(int(10 * v)),
    "NumPy's generator": lambda v: np.random.default_rng(int(10 * v)),
    "Python's generator": lambda v: random.Random(v),
    "an optimizer": optimizer,
    "a schedule": lambda v: torch.optim.lr_scheduler.ExponentialLR(optimizer(1.0), v),
    "a pattern": lambda v: re.compile(str(v)),
    "an iterator": lambda v: iter([v]),
    "a list's attribute": Listed,
    "a factory": lambda v: defaultdict(lambda: v),
    "a cached function": lambda v: functools.cache(lambda: v),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_is_made_of_other_values_is_told_apart_and_of_equal_ones_is_not(make: Any) -> None:
    assert plain_json(make(0.1)) == plain_json(make(0.1)) != plain_json(make(0.2))
    assert " at 0x" not in plain_json(make(0.1))


def test_of_what_is_trained_only_the_shape_counts() -> None:
    one, other = filled(1.0), filled(2.0)
    trained = frozenset(map(id, [*one.parameters(), *other.parameters()]))
    assert plain_json(one, trained) == plain_json(other, trained)


@pytest.mark.slow
def test_too_many_objects_are_refused() -> None:
    held: Any = Thing(1)
    for _ in range(20):
        held = Thing(held, held)
    with pytest.raises(InputError, match="more than 100000 objects"):
        plain_json(held)


PAIRS: list[tuple[Any, Any]] = [
    (torch.zeros(2), torch.ones(2)),
    (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    (torch.zeros(1, 2), torch.zeros(2, 1)),
    (torch.eye(2).to_sparse(), (2 * torch.eye(2)).to_sparse()),
    (np.zeros(3), np.ones(3)),
    (np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-02"], "M8[D]")),
    (np.array([Point(1)]), np.array([Point(2)])),
    (np.float32(1), np.float32(2)),
    ({1: 2}, {1: 3}),
    ({1: 2}, {"1": 2}),
    ({0: 1.0, "o": 2}, {0: 1.0, "o": 3}),
    ({("cc", "left"): 1}, {("cc", "right"): 1}),
    ({None: 1, "a": 1}, {None: 2, "a": 1}),
    ({"a", "b"}, {"a", "c"}),
    (Colour.RED, Colour.BLUE),
    (Point(1), Point(2)),
    (Thing(1), Thing(2)),
    (Thing(1, 1), Thing(1, 2)),
    (types.SimpleNamespace(a=Thing(1)), types.SimpleNamespace(a=Thing(2))),
    (functools.partial(torch.optim.SGD, lr=0.1), functools.partial(torch.optim.SGD, lr=0.2)),
    (torch.optim.SGD, torch.optim.Adam),
    (torch.relu, torch.sigmoid),
    (np.exp, np.log),
    (lambda: 1, lambda: 2),
    (torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)),
    (datetime.timedelta(1), datetime.timedelta(2)),
    (b"a", b"b"),
    (1 + 2j, 1 + 3j),
    (torch.float16, torch.float32),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_values_that_differ_are_told_apart(one: Any, other: Any) -> None:
    assert plain_json({"a": [one]}) != plain_json({"a": [other]})
    assert " at 0x" not in plain_json(one)


@pytest.mark.parametrize("value", [{"b": (1, 2.5), "a": [None, True, "x"]}, {"nested": {"b": {}, "a": float("inf")}}])
def test_what_json_has_stands_for_itself(value: Any) -> None:
    assert plain_json(value) == json.dumps(value, sort_keys=True)


def test_places_of_files_do_not_count() -> None:
    assert plain_json(Path("a")) == plain_json(Path("b"))


def test_a_value_that_holds_itself_and_one_that_is_too_deep() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert plain_json(value) == '{"self": {"": "again", "of": 1}}'
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deeply"):
        plain_json(deep)
    with pytest.raises(InputError, match="cannot be hashed"):
        plain_json(10**5000)


def test_what_has_moved_keeps_the_name_that_settings_were_hashed_by() -> None:
    first = {
        ImageClassifier: "lit_dist.classifier.ImageClassifier",
        SiteEnsemble: "lit_dist.ensemble.SiteEnsemble",
        Itinerary: "lit_dist.itinerary.Itinerary",
        SiteLoader: "lit_dist.site_loader.SiteLoader",
        CyclicalWeightTransfer: "lit_dist.callbacks.cyclical.CyclicalWeightTransfer",
        SingleWeightTransfer: "lit_dist.callbacks.single.SingleWeightTransfer",
        DeviceAugmentation: "lit_dist.datamodules.device_augmentation.DeviceAugmentation",
        ImageNetDataModule: "lit_dist.datamodules.imagenet.ImageNetDataModule",
        MammographyDataModule: "lit_dist.datamodules.mammography.MammographyDataModule",
    }
    for kind, name in first.items():
        assert plain_json(kind) == json.dumps({"": "named", "of": name})
