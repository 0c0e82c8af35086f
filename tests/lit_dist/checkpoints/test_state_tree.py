import contextlib
import functools
import importlib
import json
import math
import operator
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lit_dist.checkpoints.state_tree import decode, encode
from lit_dist.utils.errors import InputError


def again(value: Any) -> Any:
    text, tensors = encode({"value": value})
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return decode(text, tensors)["value"]


def same(a: Any, b: Any) -> bool:
    """Whether two values are of the same types, order and bits all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return bool(a.dtype == b.dtype and same(a.numpy(), b.numpy()))
    if isinstance(a, (np.ndarray, np.generic)):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, Mapping):
        return (
            len(a) == len(b)
            and all(map(same, a, b))
            and all(map(same, a.values(), b.values()))
            and same(getattr(a, "_metadata", None), getattr(b, "_metadata", None))
        )
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b)) and getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)


VALUES: list[Any] = [
    None, True, False, 0, -1, 2**64, -(10**30), "", "text", 'a"b\\c\n\0 ä 漢 😀', "\ud800", "!",
    0.0, -0.0, 0.1, 1e-320, 1.7976931348623157e308, math.nan, math.inf, -math.inf,
    b"", b"\x00\xff!", Path("a/b c"), Path("/"), Path(), timedelta(0), timedelta(-1, 5, 7), timedelta.max,
    torch.float32, torch.bool, torch.float8_e4m3fn, torch.complex64, torch.device("cpu"), torch.device("cuda", 3),
    torch.device("meta"), torch.Size([]), torch.Size([2, 3]),
    [], [1, [2, [3]]], (), (1, (2,), [3]), [()], {}, {"a": {}}, {"!": 1}, {"!": "tensor", "of": "a"}, {"a": {"!": {}}},
    {0: "a", 1: {2: "b"}}, {"1": 1, 1: 2}, {None: 1, True: 2, 2.5: 3, b"x": 4, ("a", 1): 5, Path("p"): 6},
    {math.inf: 1}, OrderedDict(b=1, a=2), OrderedDict({2: 1}), OrderedDict(),
    Counter("abca"), Counter(), Counter({1: 2}), deque(), deque([1, (2,)]), deque([1, 2], maxlen=2), deque(maxlen=0),
    set(), {1, 2}, {"a", 1, None, (1, 2)}, frozenset(), frozenset({frozenset({1}), b"x"}),
    np.array([[1.5, np.nan]]), np.array(3), np.zeros((0, 3), dtype=np.int16), np.array([True]),
    np.arange(6).reshape(2, 3).T, np.array([1 + 2j]), np.array([2**63], dtype=np.uint64),
    np.arange(9, dtype=np.uint8)[::3], np.float64(0.1), np.float32("nan"), np.int64(-3), np.bool_(True), np.float16(1),
    np.complex64(1j), np.uint16(7),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_kind_comes_back(value: Any) -> None:
    assert same(again(value), value)


def test_tensors_come_back_under_the_names_of_their_places() -> None:
    tensors = {
        "state_dict": OrderedDict({"conv1.weight": torch.randn(2, 3), "n": torch.tensor(3)}),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2, dtype=torch.bfloat16)}}}],
        "pair": (torch.ones(1), {"deep": deque([torch.ones(0)])}),
        "array": np.ones(3),
    }
    text, found = encode(tensors)
    assert list(found) == [
        "state_dict/conv1.weight",
        "state_dict/n",
        "optimizer_states/0/state/0/exp_avg",
        "pair/0",
        "pair/1/deep/0",
        "array",
    ]
    assert found["state_dict/n"] is tensors["state_dict"]["n"]  # type: ignore[index]
    decoded = decode(text, found)
    decoded["optimizer_states"][0]["state"][0]["exp_avg"] = torch.ones(0)
    assert list(map(type, decoded.values())) == [OrderedDict, list, tuple, np.ndarray]
    assert same(decoded["pair"], tensors["pair"])


def test_wide_complex_numbers_come_back_from_pairs() -> None:
    wide = torch.tensor([1 / 3 + 2j, -0.0 - 1j], dtype=torch.complex128)
    text, tensors = encode({"conj": wide.conj(), "array": wide.numpy(), "none": wide[:0], "one": wide[0]})
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float64}
    found = decode(text, tensors)
    assert torch.equal(found["conj"], wide.conj())
    assert found["array"].tobytes() == wide.numpy().tobytes()
    assert (found["none"].shape, found["one"].item()) == ((0,), wide[0].item())
    assert decode(text, {name: tensor.to("meta") for name, tensor in tensors.items()})["conj"].shape == (2,)


def test_tensors_whose_places_have_one_name_stay_apart() -> None:
    tree = {
        "a/b": torch.tensor(0),
        "a": {"b": torch.tensor(1), 1: torch.tensor(2), "1": torch.tensor(3), "b'": torch.tensor(4)},
        "__metadata__": torch.tensor(5),
    }
    text, tensors = encode(tree)
    assert len(tensors) == 6
    assert "__metadata__" not in tensors
    assert same(decode(text, tensors), tree)


def test_the_state_of_a_module_keeps_the_versions_of_its_parts() -> None:
    state = nn.Sequential(nn.BatchNorm1d(2)).state_dict()
    found = again(state)
    assert same(found, state)
    assert found._metadata["0"] == {"version": 2}
    network = nn.Sequential(nn.BatchNorm1d(2))
    del found["0.num_batches_tracked"]
    with pytest.raises(RuntimeError, match="Missing key"):  # which version 1 may lack and version 2 may not
        network.load_state_dict(found)


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS"])
def test_the_state_of_an_optimizer_comes_back(name: str) -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = getattr(torch.optim, name)([parameter])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (parameter - 1.5).pow(4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.state_dict()["state"] or name == "SGD"
    assert same(again(optimizer.state_dict()), optimizer.state_dict())


class Level(IntEnum):
    HIGH = 3


class Colour(StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int


class Names(set[str]):
    pass


def read_only() -> Any:
    array = np.ones(2)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (nn.Parameter(torch.ones(2)), [1.0, 1.0]),
        (defaultdict(int, {"a": 1}), {"a": 1}),
        (defaultdict(list, {1: [2]}), {1: [2]}),
        (Level.HIGH, 3),
        (Colour.RED, "red"),
        (Point(1), (1,)),
        (Names({"a"}), {"a"}),
        (np.str_("x"), "x"),
        (np.bytes_(b"x"), b"x"),
        (np.arange(3)[::-1], [2, 1, 0]),
        (np.arange(3).astype(">i4"), [0, 1, 2]),
        (read_only(), [1.0, 1.0]),
    ],
    ids=repr,
)
def test_what_is_nearly_a_plain_kind_becomes_one(value: Any, expected: Any) -> None:
    found = again(value)
    assert same(found.tolist() if isinstance(found, np.ndarray | Tensor) else found, expected)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.timedeltas(), st.just("!")
)
keys = st.one_of(st.text(max_size=3), st.integers(-2, 2), st.just("!"), st.none(), st.tuples(st.integers(0, 2)))
tensors = st.one_of(
    st.sampled_from([torch.float32, torch.int64, torch.bool]).map(lambda dtype: torch.ones(2, dtype=dtype)),
    st.lists(st.floats(width=32), max_size=3).map(torch.tensor),
    st.lists(st.integers(0, 9), max_size=3).map(lambda numbers: np.array(numbers, dtype=np.int32)),
    st.floats(width=32).map(np.float32),
)


def branches(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(leaf, max_size=3)
    dicts = st.dictionaries(keys, leaf, max_size=3)
    return st.one_of(
        lists, lists.map(tuple), lists.map(deque), dicts, dicts.map(OrderedDict), st.frozensets(st.text(max_size=3))
    )


trees = st.recursive(scalars | tensors, branches, max_leaves=20)


@pytest.mark.slow
@settings(max_examples=200, database=None, derandomize=True)
@given(st.dictionaries(st.text(max_size=3), trees, max_size=4))
def test_any_tree_comes_back(tree: dict[str, Any]) -> None:
    text, found = encode(tree)
    assert same(decode(text, found), tree)


def function() -> None: ...


class Thing:
    pass


NO_VALUES = (
    *(function, nn.Linear(1, 1), Thing(), Thing, torch, print, functools.partial(print), 1j, range(3), iter([])),
    *(bytearray(b"a"), PurePosixPath("a"), torch.Generator()),
)


@pytest.mark.parametrize("value", NO_VALUES, ids=lambda value: type(value).__name__)
def test_what_is_no_plain_value_is_refused_with_its_place(value: Any) -> None:
    message = rf"nested/1/0 is a {type(value).__name__}; leave it out, for example by save_hyperparameters\(ignore="
    with pytest.raises(InputError, match=f"hyper_parameters/{message}"):
        encode({"epoch": 1, "hyper_parameters": {"nested": ["x", (value,)]}})


def test_a_key_that_is_no_plain_value_is_refused() -> None:
    with pytest.raises(InputError, match="a is a function"):
        encode({"a": {function: 1}})


def recursive() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree["a"] = tree
    return tree


def deep() -> list[Any]:
    tree: list[Any] = []
    for _ in range(5000):
        tree = [tree]
    return tree


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: np.array(["text"]), id="array of text"),
        pytest.param(lambda: np.array([None]), id="array of objects"),
        pytest.param(lambda: np.datetime64("2020-01-01"), id="date"),
        pytest.param(lambda: np.longdouble(1), id="longdouble"),
        pytest.param(lambda: np.zeros(2, dtype=[("a", "i4")]), id="records"),
        pytest.param(recursive, id="recursive"),
        pytest.param(deep, id="deep"),
        pytest.param(lambda: 10**5000, id="long integer"),
    ],
)
def test_what_neither_json_nor_torch_can_hold_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match="value"):
        encode({"value": make()})


def tagged(kind: Any, of: Any, **more: Any) -> str:
    return json.dumps({"a": {"!": kind, "of": of, **more}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ('{"a":1} {', "Extra data"),
        *((f'{{"a":[{constant}]}}', f"{constant} is not JSON") for constant in ("NaN", "Infinity", "-Infinity")),
        *((text, "it is not a dictionary") for text in ("[]", "null", "1", '{"!":"tuple","of":[]}')),
        ("[" * 100_000 + "]" * 100_000, "RecursionError"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "RecursionError"),
        (f'{{"a":{"9" * 5000}}}', "4300 digits"),
        (tagged("function", "print"), "KeyError: 'function'"),
        (tagged("builtins.eval", "1"), "KeyError: 'builtins.eval'"),
        ('{"a":{"!":"tuple"}}', "KeyError: 'of'"),
        (tagged("tensor", "b"), "KeyError: 'b'"),
        (tagged("Counter", [["a", 1, 2]]), "length 3"),
        *((tagged("deque", of), r"\w") for of in ([], [[1]], [[], -1], [[], 2**70])),
        (tagged("bytes", "%"), "base64"),
        (tagged("timedelta", [10**12]), "OverflowError"),
        *((tagged("dtype", name), f"{name} is not a dtype") for name in ("nn", "load", "float32.is_complex")),
        *((tagged("device", name), r"\w") for name in ("nonsense", "cuda:99999999999999999999", -1)),
        (tagged("tuple", [], versions={}), "AttributeError"),
    ],
    ids=lambda text: text[:40],
)
def test_a_text_that_is_nonsense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(text, {})


@pytest.mark.parametrize("name", ["a", "b/a", ""])
def test_a_tensor_that_nothing_refers_to_is_refused(name: str) -> None:
    text, tensors = encode({"b": torch.ones(1)})
    with pytest.raises(ValueError, match=f"nothing refers to the tensor '{name}'"):
        decode(text, {**tensors, name: torch.ones(1)})


def test_a_tensor_that_is_missing_is_refused() -> None:
    text, tensors = encode({"a": torch.ones(1), "b": torch.ones(1)})
    with pytest.raises(ValueError, match="KeyError: 'b'"):
        decode(text, {"a": tensors["a"]})


def test_a_tensor_that_numpy_cannot_hold_is_no_array() -> None:
    with pytest.raises(ValueError, match="TypeError"):
        decode(tagged("array", "a"), {"a": torch.ones(1, dtype=torch.bfloat16)})


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(-9, 9), st.text("a!o")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "!", "of"]), inner, max_size=3),
    max_leaves=8,
)
KINDS = [
    "tensor", "array", "scalar", "dict", "OrderedDict", "Counter", "tuple", "set", "frozenset", "deque", "float",
    "size", "bytes", "path", "timedelta", "dtype", "device",
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=500, database=None, derandomize=True)
@given(st.sampled_from(KINDS) | json_values, json_values, st.none() | json_values)
def test_any_text_is_decoded_or_refused_with_a_value_error(kind: Any, of: Any, versions: Any) -> None:
    more = {} if versions is None else {"versions": versions}
    try:
        assert isinstance(decode(tagged(kind, of, **more), {"a": torch.ones(1)}), dict)
    except ValueError as error:
        assert str(error)  # noqa: PT017


def call_nothing(*args: Any, **kwargs: Any) -> None:
    pytest.fail(f"called with {args}")


@pytest.mark.parametrize(
    "text",
    [
        tagged("builtins.print", "x"),
        tagged("os.system", "touch ran"),
        tagged("function", "os.system"),
        tagged("dtype", "os"),
        tagged("dtype", "load"),
        tagged("path", "/etc/passwd"),
        tagged("device", "cpu"),
        json.dumps({"__reduce__": ["os.system", "touch ran"], "__class__": "Path", "py/object": "os.system"}),
    ],
)
def test_decode_imports_and_runs_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(sys.modules)
    with monkeypatch.context() as patch:
        patch.setattr("os.system", call_nothing)
        patch.setattr("builtins.open", call_nothing)
        patch.setattr("builtins.eval", call_nothing)
        patch.setattr("builtins.exec", call_nothing)
        patch.setattr(importlib, "import_module", call_nothing)
        patch.setattr(torch, "load", call_nothing)
        with contextlib.suppress(ValueError):
            decode(text, {})
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["_inductor", "onnx", "has_mps"])
def test_the_name_of_a_dtype_imports_and_runs_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in vars(torch):
        monkeypatch.delattr(torch, name)
    monkeypatch.setattr(importlib, "import_module", call_nothing)
    with pytest.raises(ValueError, match="is not a dtype"):
        decode(tagged("dtype", name), {})


def test_decoding_gives_the_tensors_themselves_and_no_copies() -> None:
    text, tensors = encode({"a": torch.ones(2)})
    assert operator.is_(decode(text, tensors)["a"], tensors["a"])
