"""FrozenBackbone: vectors are what the last layer of a network gets, and weights come from safetensors alone."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pickles import RAN, Payload

from lit_dist import ImageClassifier
from lit_dist.checkpoints.baton import write_checkpoint
from lit_dist.models.backbones import build_backbone, head_name
from lit_dist.models.frozen_backbone import FrozenBackbone, _network
from lit_dist.utils.atomic_write import file_sha256
from lit_dist.utils.errors import InputError
from small_encoder import ARCHITECTURE, weights


def save(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    safetensors.torch.save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize(
    ("name", "features"), [("squeezenet1_1", 512), ("resnet18", 512), ("mobilenet_v3_small", 1024)]
)
def test_a_vector_is_what_the_last_layer_gets_averaged_over_places(tmp_path: Path, name: str, features: int) -> None:
    network = build_backbone(name, 10).eval()
    seen = []
    network.get_submodule(head_name(network)).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(3, 64, 64)
    with torch.no_grad():
        network(image[None])
    vector = FrozenBackbone(name, save(tmp_path / "w.safetensors", network.state_dict()))(image)
    assert vector.shape == (features,)
    assert torch.allclose(vector, seen[0][0].reshape(features, -1).mean(dim=1), atol=1e-6)


FAMILIES = ["alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"]
FAMILIES += ["mnasnet0_5", "regnet_x_400mf", "resnet18", "shufflenet_v2_x0_5", "slim_resnet18", "swin_t", "vgg11"]
FAMILIES += ["mobilenet_v2", "squeezenet1_0", "vit_b_16"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_network_of_torchvision_has_a_place_for_all_but_the_last_layer(name: str) -> None:
    # A RegNet computes its widths with tensors, so it cannot be built without memory.
    with torch.device("cpu" if "regnet" in name else "meta"):
        network, left_out = _network(name)
        whole = build_backbone(name, 10)
    gone = whole.state_dict().keys() - network.state_dict().keys()
    assert 1 <= len(gone) <= 2
    assert all(each.startswith(left_out) for each in gone)
    assert not any(each.startswith(left_out) for each in network.state_dict())


def test_a_head_of_other_classes_or_none_makes_no_difference_nor_does_a_run_draw_anything(tmp_path: Path) -> None:
    headless = {name: value for name, value in weights().items() if not name.startswith("classifier")}
    before = torch.get_rng_state()
    made = [
        FrozenBackbone(ARCHITECTURE, save(tmp_path / f"{number}.safetensors", given))
        for number, given in enumerate([weights(), headless])
    ]
    assert torch.equal(torch.get_rng_state(), before)
    image = torch.randn(3, 64, 64)
    assert torch.equal(made[0](image), made[1](image))


def test_a_checkpoint_of_ours_is_read(tmp_path: Path) -> None:
    model = ImageClassifier(ARCHITECTURE, num_classes=2)
    model.backbone.load_state_dict({**model.backbone.state_dict(), **_features()})
    write_checkpoint({"state_dict": model.state_dict(), "pytorch-lightning_version": "2.6"}, tmp_path / "best.ckpt")
    image = torch.randn(3, 64, 64)
    expected = FrozenBackbone(ARCHITECTURE, save(tmp_path / "w.safetensors", weights()))(image)
    assert torch.equal(FrozenBackbone(ARCHITECTURE, tmp_path / "best.ckpt")(image), expected)


def _features() -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights().items() if name.startswith("features")}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_computed_with_in_single_precision_and_that_is_said(
    tmp_path: Path, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    given = {name: value.to(dtype) for name, value in weights().items()}
    found = FrozenBackbone(ARCHITECTURE, save(tmp_path / "w.safetensors", given))
    assert {value.dtype for value in found.network.parameters()} == {torch.float32}
    assert torch.equal(found.network.state_dict()["features.0.bias"], given["features.0.bias"].float())
    assert str(dtype).removeprefix("torch.") in caplog.text


def _without_first(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in given.items() if name != "features.0.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_first, "lacks: features.0.bias"),
        (lambda given: {**given, "extra": torch.zeros(1)}, "unknown tensors: extra"),
        (lambda given: {f"module.{name}": value for name, value in given.items()}, "unknown tensors: module"),
        (lambda given: {**given, "features.0.bias": torch.zeros(3)}, r"another shape or dtype: features.0.bias"),
        (lambda given: {**given, "features.0.bias": torch.zeros(64, dtype=torch.int8)}, r"is torch.int8 \(64,\)"),
        (lambda given: {**given, "features.0.bias": torch.full((64,), torch.nan)}, "NaN or infinite"),
        (lambda given: {}, "lacks"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = save(tmp_path / "w.safetensors", change(weights()))
    with pytest.raises(InputError, match=message):
        FrozenBackbone(ARCHITECTURE, path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.ckpt"])
def test_a_pickle_is_not_read_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        FrozenBackbone(ARCHITECTURE, tmp_path / name)
    assert not RAN.exists()


def test_a_file_that_is_cut_short_or_missing_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", weights())
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        FrozenBackbone(ARCHITECTURE, path)
    with pytest.raises(InputError, match="No such file or directory"):
        file_sha256(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [("squeezenet1_2", "did you mean squeezenet1_"), ("timm/resnet18", "pip install timm"), ("hf-hub:x", "timm/NAME")],
)
def test_unknown_architectures_are_refused(
    tmp_path: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_dist.models.frozen_backbone.find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        FrozenBackbone(name, tmp_path / "none.safetensors")


def test_images_that_a_network_does_not_take_are_refused(tmp_path: Path) -> None:
    backbone = FrozenBackbone(ARCHITECTURE, save(tmp_path / "w.safetensors", weights()))
    with pytest.raises(InputError, match=r"takes no image of the shape \(3, 8, 8\)"):
        backbone(torch.zeros(3, 8, 8))
