"""Torchvision's classification networks and a slim one, with a head for our classes and given weights."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import dropout as drop

from lit_dist.checkpoints import tensor_file
from lit_dist.checkpoints.baton import check_weights, read_checkpoint
from lit_dist.models.slim_resnet import slim_resnet18
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_errors import nearest

_OWN = {"slim_resnet18": slim_resnet18}
# Their auxiliary heads are for a loss of their own, which nothing here computes.
_AUXILIARY: dict[str, tuple[str, ...]] = {"inception_v3": ("AuxLogits.",), "googlenet": ("aux1.", "aux2.")}


def backbone_names() -> list[str]:
    """The names that ``build_backbone`` takes."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return [*names, *_OWN]


def build_backbone(name: str, num_classes: int, dropout: float = 0.0, **kwargs: Any) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: A name of torchvision's, such as ``"resnet34"``, or ``"slim_resnet18"``.
        num_classes: The number of outputs.
        dropout: The probability with which a feature before the last layer is dropped in training.
        **kwargs: Further arguments of the network, such as ``image_size`` of a vision transformer.

    Raises:
        InputError: If torchvision has no such network, or it does not take one of the arguments.
    """
    if name not in backbone_names():
        hint = nearest(name, backbone_names()) or f"; there are {', '.join(backbone_names())}"
        raise InputError(f"there is no classification network {name!r}{hint}")
    if name in _AUXILIARY:
        kwargs = {"aux_logits": False, "init_weights": True, **kwargs}
    try:
        network: nn.Module = (
            _OWN[name](num_classes, **kwargs)
            if name in _OWN
            else torchvision.models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:  # each network has its own way to refuse
        raise InputError(f"{name} cannot be built with {kwargs}: {error}") from None
    if dropout:
        # A hook, not a layer in front, so that the weights keep torchvision's names.
        network.get_submodule(head_name(network)).register_forward_pre_hook(partial(_drop, p=dropout))
    return network


def _drop(head: nn.Module, inputs: tuple[Tensor, ...], p: float) -> Tensor:
    return drop(inputs[0], p, head.training)


def head_name(network: nn.Module) -> str:
    """The name of the last layer with weights: a network's classifier."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return names[-1]


def trains_on_one(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a network can be trained on one image of a shape (3, height, width): batch normalisation may need two.

    The network is not changed, and computes nothing.
    """
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        return True
    sketch = copy.deepcopy(network).to("meta").train()
    try:
        sketch(torch.empty(1, *shape, device="meta", dtype=next(sketch.parameters()).dtype))
    except ValueError as error:
        return "more than 1 value per channel" not in str(error)
    return True


def load_weights(network: nn.Module, name: str, path: Path) -> None:
    """Copy the weights of a file into a network; a head for another number of classes is left out.

    Args:
        network: What ``build_backbone`` returned.
        name: The network's name.
        path: A checkpoint, a ``.safetensors`` file, or one that ``torch.load`` reads with ``weights_only``; tensors
            under torchvision's names, or those of an ``ImageClassifier``.

    Raises:
        InputError: If the file is missing or unreadable, or does not hold this network's weights.
    """
    expected, auxiliary, head = network.state_dict(), _AUXILIARY.get(name, ()), head_name(network) + "."
    weights = {key: value for key, value in expected.items() if key.startswith(head)}
    for key, value in read_weights(path).items():
        key, own = key.removeprefix("backbone."), expected.get(key.removeprefix("backbone."))
        foreign_head = own is not None and key.startswith(head) and value.shape != own.shape
        if not foreign_head and not key.startswith(auxiliary):
            weights[key] = value if own is None else value.to(own.dtype)
    check_weights(weights, expected, path)
    network.load_state_dict(weights)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, without unpickling anything else.

    Raises:
        InputError: If the file is missing, is not of a known kind, or holds something other than tensors.
    """
    if not path.is_file():
        raise InputError(f"there is no file of weights at {path}")
    if tensor_file.is_ours(path):
        weights: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
        return weights
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read as weights: {error}") from None
    except Exception as error:  # the unpickler's own class, which says at length how to switch its check off
        raise InputError(f"{path} holds more than tensors, so it was not read ({type(error).__name__})") from None
    found = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds no dictionary of tensors by name")
    return dict(found)
