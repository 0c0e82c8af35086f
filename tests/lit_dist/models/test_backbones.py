import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pickles import RAN, Payload

from lit_dist.models.backbones import backbone_names, build_backbone, head_name, load_weights
from lit_dist.utils.errors import InputError
from real_data import real_folder

# A RegNet computes its widths with tensors, so it cannot be built without memory; its small ones stand for all.
NAMES = [name for name in backbone_names() if "regnet" not in name or "400mf" in name]


@pytest.mark.parametrize("name", NAMES)
def test_every_classification_network_has_a_head_of_our_classes(name: str) -> None:
    with torch.device("cpu" if "regnet" in name else "meta"):
        network = build_backbone(name, 7, dropout=0.5)
    head = network.get_submodule(head_name(network))
    assert 7 in (getattr(head, "out_features", None), getattr(head, "out_channels", None))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_dropout_acts_in_training_only_and_keeps_the_names_of_the_weights(name: str) -> None:
    network = build_backbone(name, 2, dropout=0.9)
    assert set(network.state_dict()) == set(build_backbone(name, 2).state_dict())
    images = torch.randn(2, 3, 64, 64)
    network.eval()
    assert torch.equal(network(images), network(images))
    head = network.get_submodule(head_name(network))
    head.train()
    assert not torch.equal(network(images), network(images))


def save(network: torch.nn.Module, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({k: v.clone() for k, v in network.state_dict().items()}, path)
    else:
        torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("classes", [2, 1000])
def test_weights_are_read_and_a_head_for_other_classes_is_left_out(tmp_path: Path, suffix: str, classes: int) -> None:
    given, network = build_backbone("resnet18", classes), build_backbone("resnet18", 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_weights(network, "resnet18", save(given, tmp_path / f"weights{suffix}"))
    expected = given.state_dict()
    for name, value in network.state_dict().items():
        source = before if name.startswith("fc.") and classes != 2 else expected
        assert torch.equal(value, source[name]), name


def test_auxiliary_heads_of_given_weights_are_left_out(tmp_path: Path) -> None:
    given = build_backbone("googlenet", 1000, aux_logits=True)
    path = save(given, tmp_path / "googlenet.pth")
    network = build_backbone("googlenet", 2)
    load_weights(network, "googlenet", path)
    assert torch.equal(network.state_dict()["conv1.conv.weight"], given.state_dict()["conv1.conv.weight"])


def test_real_imagenet_weights_recognise_photographs() -> None:
    folder = real_folder("weights")
    network = build_backbone("squeezenet1_0", 1000)
    load_weights(network, "squeezenet1_0", next(folder.rglob("*.safetensors")))
    assert network.state_dict()["features.0.weight"].abs().mean() > 0.01


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.pth", None, "no file of weights"),
        ("empty.pth", b"", "cannot be read|more than tensors"),
        ("text.safetensors", b"not tensors at all", "cannot be read"),
        ("text.pth", b"not tensors at all", "cannot be read|more than tensors"),
        ("evil.pth", pickle.dumps(Payload()), "more than tensors"),
        ("evil.ckpt", {"state_dict": Payload()}, "more than tensors"),
        ("evil.safetensors", pickle.dumps(Payload()), "cannot be read"),
        ("list.pth", [1, 2], "no dictionary of tensors"),
        ("other.pth", {"layer.weight": torch.zeros(1)}, "has unknown tensors: layer.weight"),
        (
            "wrong.pth",
            {**build_backbone("resnet18", 2).state_dict(), "conv1.weight": torch.zeros(1)},
            "another shape or dtype: conv1.weight",
        ),
        ("part.pth", {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "lacks: bn1.bias"),
    ],
)
def test_refused_files(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        load_weights(build_backbone("resnet18", 2), "resnet18", path)
    assert not RAN.exists()


def test_refused_names_and_arguments() -> None:
    with pytest.raises(InputError, match=r"no classification network 'resnet35'; did you mean resnet\d+"):
        build_backbone("resnet35", 2)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {"colour": "red"}),
        ("resnet18", {"groups": 2}),
        ("vit_b_16", {"image_size": 30}),
        ("slim_resnet18", {"width": -4}),
    ],
)
def test_what_a_network_does_not_take_is_refused(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{name} cannot be built with {arguments}: "):
        build_backbone(name, 2, **arguments)
