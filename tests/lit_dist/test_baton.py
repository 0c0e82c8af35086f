import hashlib
import json

import torch

from lit_dist.baton import fingerprint


def test_the_hash_is_that_of_names_dtypes_shapes_and_bytes() -> None:
    state = {"b": torch.tensor(3, dtype=torch.int64), "a": torch.tensor([[1.0, 2.0]])}
    digest = hashlib.sha256()
    digest.update(json.dumps(["a", "torch.float32", [1, 2]]).encode() + state["a"].numpy().tobytes())
    digest.update(json.dumps(["b", "torch.int64", []]).encode() + state["b"].numpy().tobytes())
    assert fingerprint(state) == (digest.hexdigest(), 16)


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
