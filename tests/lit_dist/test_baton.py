import hashlib
import json

import torch

from lit_dist.baton import fingerprint


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
