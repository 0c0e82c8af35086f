"""Any values as JSON that is the same in every process."""

import datetime
import enum
import functools
import json
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_dist.errors import InputError
from lit_dist.plain_values import plain_json


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


def test_two_processes_agree() -> None:
    code = "from pathlib import Path; from lit_dist.plain_values import plain_json; import types; "
    code += "print(plain_json([{'a', 'b', 'c', ('d', 1)}, types.SimpleNamespace(x={1, 'y'}), lambda: 3, print]))"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in "12"
    ]
    assert said[0] == said[1] != ""
