import hashlib
import json
import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lit_dist.checkpoints.baton import check_weights, fingerprint, read_checkpoint, write_checkpoint
from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite


def test_the_hash_is_that_of_names_dtypes_shapes_and_bytes() -> None:
    state = {"b": torch.tensor(3, dtype=torch.int64), "a": torch.tensor([[1.0, 2.0]])}
    lines = [
        ["a", "torch.float32", [1, 2], hashlib.sha256(state["a"].numpy().tobytes()).hexdigest()],
        ["b", "torch.int64", [], hashlib.sha256(state["b"].numpy().tobytes()).hexdigest()],
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert fingerprint(state) == (hashlib.sha256(text.encode()).hexdigest(), 16)


def test_the_hash_sees_every_change() -> None:
    state = {"weight": torch.zeros(4, 4), "steps": torch.tensor(0)}
    changed = torch.zeros(4, 4)
    changed[3, 3] = -0.0
    states = [
        state,
        {**state, "weight": changed},
        {**state, "weight": torch.zeros(2, 8)},
        {**state, "weight": torch.zeros(4, 4, dtype=torch.int32)},
        {"bias": state["weight"], "steps": state["steps"]},
        {**state, "steps": torch.tensor(1)},
    ]
    assert len({fingerprint(state)[0] for state in states}) == len(states)


def test_the_hash_does_not_depend_on_memory_layout_or_order() -> None:
    weight = torch.randn(3, 4, 5, 6, dtype=torch.bfloat16)
    strided = weight.to(memory_format=torch.channels_last)
    assert fingerprint({"w": weight, "a": weight}) == fingerprint({"a": strided, "w": strided})


def test_what_is_no_tensor_is_left_out() -> None:
    assert fingerprint({"a": torch.ones(1), "extra": {"x": 1}}) == fingerprint({"a": torch.ones(1)})


def test_the_hash_takes_one_value_of_a_strided_view() -> None:
    weight = torch.arange(4.0)
    assert fingerprint({"a": weight[1::4]}) == fingerprint({"a": torch.tensor([1.0])})


WIDE = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


BYTES = {torch.float8_e4m3fn: [math.nan], torch.float8_e5m2: [math.nan, math.inf, -math.inf]}
NUMBERS = {**{dtype: [math.nan, math.inf, -math.inf] for dtype in WIDE}, **BYTES}


@pytest.mark.parametrize(("dtype", "value"), [(dtype, value) for dtype, values in NUMBERS.items() for value in values])
@pytest.mark.parametrize("place", [0, 3, 5])
def test_a_value_that_is_not_finite_is_found(dtype: torch.dtype, value: float, place: int) -> None:
    tensor = torch.tensor([-2.0, 1.0, 0.0, 3.0, -0.0, 448.0], dtype=torch.float64)
    tensor[place] = value
    tensor = tensor.to(dtype)
    assert not_finite({"a": torch.ones(2, dtype=dtype), "b": tensor.reshape(2, 3), "c": tensor}) == "b"


@pytest.mark.parametrize("value", [complex(math.nan, 0), complex(0, math.inf)])
def test_a_complex_value_that_is_not_finite_is_found(value: complex) -> None:
    assert not_finite({"a": torch.tensor([1j]), "b": torch.tensor([1j, value])}) == "b"


@pytest.mark.parametrize("dtype", NUMBERS)
def test_extreme_finite_values_pass(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    assert (
        not_finite({"a": torch.tensor([limits.max, limits.min, limits.tiny, 0.0, -0.0], dtype=torch.float64).to(dtype)})
        is None
    )


def test_what_has_no_fractions_or_no_values_passes() -> None:
    state: dict[str, Any] = {
        "integers": torch.tensor([torch.iinfo(torch.int64).max]),
        "unsigned": torch.tensor([2**16 - 1], dtype=torch.uint16),
        "booleans": torch.tensor([True]),
        "empty": torch.empty(0, 3),
        "no tensor": math.nan,
        "extra": {"x": torch.tensor(math.nan)},
    }
    assert not_finite(state) is None
    assert not_finite({}) is None


def test_a_value_that_is_not_finite_is_found_in_any_layout() -> None:
    weight = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    weight[1, 2, 3, 3] = math.nan
    assert not_finite({"scalar": torch.tensor(1.0), "weight": nn.Parameter(weight)}) == "weight"
    assert not_finite({"slice": weight[:, :2], "slice with it": weight[:, 2:].mT}) == "slice with it"
    assert not_finite({"scalar": torch.tensor(math.inf)}) == "scalar"


def checkpoint(value: float = 1.0) -> dict[str, Any]:
    return {
        "epoch": 3,
        "state_dict": OrderedDict({"a.weight": torch.ones(2, 2), "b.weight": torch.tensor([0.5, value])}),
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0), "exp_avg": torch.ones(2)}}}],
    }


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    write_checkpoint(checkpoint(), tmp_path / "a.ckpt")
    for path in (tmp_path / "a.ckpt", str(tmp_path / "a.ckpt")):
        found = read_checkpoint(path)
        assert (list(found), found["epoch"], type(found["state_dict"])) == (list(checkpoint()), 3, OrderedDict)
        assert fingerprint(found["state_dict"]) == fingerprint(checkpoint()["state_dict"])
        adam = found["optimizer_states"][0]["state"][0]
        assert (adam["step"], adam["exp_avg"].tolist()) == (4, [1, 1])


def test_weights_that_are_not_finite_replace_nothing_and_are_read_only_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint(checkpoint(), path)
    diverged = r"the tensor 'b\.weight' has values that are NaN or infinite"
    with pytest.raises(InputError, match=rf"^{path} was not written: {diverged}, so training has"):
        write_checkpoint(checkpoint(math.nan), path)
    assert fingerprint(read_checkpoint(path)["state_dict"]) == fingerprint(checkpoint()["state_dict"])
    assert list(tmp_path.iterdir()) == [path]
    write_checkpoint(checkpoint(math.nan), path, finite=False)
    with pytest.raises(InputError, match=rf"^{path} was not read: {diverged}"):
        read_checkpoint(path)
    found = read_checkpoint(path, finite=False)
    assert fingerprint(found["state_dict"]) == fingerprint(checkpoint(math.nan)["state_dict"])


def test_only_the_weights_must_be_finite(tmp_path: Path) -> None:
    other = {"callbacks": {"best": torch.tensor(math.inf), "last": math.nan}, "state_dict": {"a": torch.ones(1)}}
    write_checkpoint(other, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt")["callbacks"]
    assert found["best"] == math.inf
    assert math.isnan(found["last"])


def test_a_checkpoint_without_weights_comes_back(tmp_path: Path) -> None:
    write_checkpoint({"epoch": 1}, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt") == {"epoch": 1}


def test_a_checkpoint_can_be_read_without_its_tensors(tmp_path: Path) -> None:
    write_checkpoint(checkpoint(math.nan), tmp_path / "a.ckpt", finite=False)
    found = read_checkpoint(tmp_path / "a.ckpt", with_tensors=False)
    assert found["epoch"] == 3
    weight = found["state_dict"]["a.weight"]
    assert (weight.device.type, weight.shape, weight.dtype) == ("meta", (2, 2), torch.float32)


def test_a_checkpoint_with_an_array_can_be_read_without_its_tensors(tmp_path: Path) -> None:
    write_checkpoint({"epoch": 3, "best": np.float64(0.5), "curve": np.ones(2)}, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt", with_tensors=False)["epoch"] == 3


@pytest.mark.parametrize("state", [3, [1], "text", None])
def test_weights_that_are_no_dictionary_are_refused(tmp_path: Path, state: Any) -> None:
    write_checkpoint({"state_dict": state}, tmp_path / "a.ckpt", finite=False)
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("weight", [torch.ones(2).to_sparse(), torch.ones(2, device="meta")], ids=["sparse", "meta"])
def test_weights_that_cannot_be_held_are_refused(tmp_path: Path, weight: Tensor) -> None:
    with pytest.raises(InputError, match=r"'(state_dict/)?conv'"):
        write_checkpoint({"state_dict": {"conv": weight}}, tmp_path / "a.ckpt")


NETWORK = {"conv.weight": torch.ones(4, 3), "conv.bias": torch.ones(4), "steps": torch.tensor(0)}


def test_weights_that_fit_pass() -> None:
    check_weights({name: tensor + 1 for name, tensor in reversed(NETWORK.items())}, NETWORK, "a.ckpt")
    check_weights({**NETWORK, "extra": {"x": 1}}, {**NETWORK, "other extra": 2}, "a.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"fc.weight": torch.ones(2)},
            "has unknown tensors: fc.weight (fc.weight is torch.float32 (2,) in the file",
        ),
        ({"conv.bias": None}, "lacks: conv.bias (conv.bias is nothing in the file, torch.float32 (4,) in the network)"),
        ({"steps": None, "conv.bias": None}, "lacks: conv.bias, steps (conv.bias is"),
        (
            {"conv.weight": torch.ones(4, 1)},
            "has tensors of another shape or dtype: conv.weight (conv.weight is",
        ),
        ({"conv.weight": torch.ones(3, 4)}, "float32 (3, 4) in the file, torch.float32 (4, 3) in the network)"),
        ({"conv.weight": torch.ones(12)}, "float32 (12,) in the file"),
        ({"steps": torch.tensor(0.0)}, "steps (steps is torch.float32 () in the file, torch.int64 () in the network)"),
        ({"conv.weight": torch.ones(4, 3).half()}, "torch.float16 (4, 3) in the file"),
        ({f"new.{number}": torch.ones(1) for number in range(9)}, "new.0, new.1, new.2, new.3, new.4 (new.0 is"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    found = {name: value for name, value in {**NETWORK, **change}.items() if value is not None}
    with pytest.raises(InputError, match=rf"^a\.ckpt does not fit this network: .*{re.escape(message)}"):
        check_weights(found, NETWORK, "a.ckpt")


def test_weights_that_do_not_fit_say_what_to_do() -> None:
    with pytest.raises(InputError, match=r"; take the model settings of the run that wrote it$"):
        check_weights({}, NETWORK, "a.ckpt")
