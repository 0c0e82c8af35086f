"""FrozenBackbone: a network with given weights that is not trained, and turns an image into a vector."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError
from torch import Tensor, nn

from lit_dist.checkpoints import tensor_file
from lit_dist.checkpoints.baton import check_weights, read_checkpoint
from lit_dist.models.backbones import backbone_names, build_backbone, head_name
from lit_dist.utils.errors import InputError
from lit_dist.utils.finite_tensors import not_finite
from lit_dist.utils.plain_errors import nearest

TIMM = "timm/"
"""What the name of an architecture of timm's begins with."""

_PREFIX = "backbone."  # in files of our own modules


class FrozenBackbone:
    """A network without its last layer; what that layer would get is an image's vector.

    Where the last layer is a convolution, the vector is the mean over all places. An image's vector does not depend on
    the others of a batch, since each goes through alone.

    Args:
        architecture: A name of torchvision's, such as ``"squeezenet1_0"``; or, where timm is installed, one of timm's
            after ``timm/``.
        weights: A safetensors file with the weights under that library's names, or a checkpoint of ours. Weights of
            half precision are computed with in single precision. Those of the last layer may lack.

    Raises:
        InputError: If there is no such architecture, or the file is missing, is of another kind, or does not fit.
    """

    def __init__(self, architecture: str, weights: Path) -> None:
        check_architecture(architecture)
        with torch.random.fork_rng(devices=[]):  # a run that finds all vectors in the cache draws nothing
            self.network, left_out = _network(architecture)
        expected = self.network.state_dict()
        found = {name.removeprefix(_PREFIX): value for name, value in _read(weights).items()}
        found = {name: value for name, value in found.items() if name in expected or not name.startswith(left_out)}
        found = _of_the_precision(found, expected, weights)
        check_weights(found, expected, weights)
        self.network.load_state_dict(found)
        self.network.eval().requires_grad_(False)
        self._name = architecture

    def __call__(self, image: Tensor) -> Tensor:
        """The vector of an image.

        Args:
            image: Normalised, float32, (3, height, width).

        Returns:
            The vector, float32, (features,).

        Raises:
            InputError: If the network does not take images of that size, or its outputs are not finite.
        """
        try:
            with torch.inference_mode():
                vector: Tensor = self.network(image[None])
        except (RuntimeError, ValueError, AssertionError) as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(f"{self._name} takes no image of the shape {tuple(image.shape)}: {text}") from None
        if not vector.isfinite().all():
            raise InputError(f"{self._name} gives values that are not finite: are these its weights?")
        return vector.flatten()


def check_architecture(name: str) -> None:
    """Raise ``InputError`` if neither torchvision nor timm has a network of a name."""
    if not name.startswith(TIMM):
        if name not in backbone_names():
            hint = nearest(name, backbone_names()) or f"; a network of timm's is called {TIMM}NAME"
            raise InputError(f"there is no classification network {name!r}{hint}")
        return
    if find_spec("timm") is None:
        raise InputError(f"architecture={name!r} needs timm, which is not installed: pip install timm")
    import timm

    if not timm.is_model(name.removeprefix(TIMM)):  # nothing that would be looked for elsewhere
        raise InputError(f"timm has no network {name.removeprefix(TIMM)!r}")


def _network(name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """A network without its last layer, and how the names of tensors begin that it has no place for."""
    if name.startswith(TIMM):
        import timm

        network: Any = timm.create_model(name.removeprefix(TIMM), pretrained=False, num_classes=0)
        heads = network.pretrained_cfg.get("classifier") or ()
        return network, tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    network = build_backbone(name, 1)
    head = head_name(network)
    network.set_submodule(head, nn.Identity())
    return network, (f"{head}.", "AuxLogits.", "aux1.", "aux2.")


def _read(path: Path) -> dict[str, Tensor]:
    if tensor_file.is_ours(path):
        state: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
        return state
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({' '.join(str(error).split())[:100]}); weights of another kind are"
            " written so by safetensors.torch.save_file(network.state_dict(), 'weights.safetensors')"
        ) from None


def _of_the_precision(found: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of a file in the network's precision."""
    name = not_finite(found)
    if name is not None:
        raise InputError(f"{path} was not read: the tensor {name!r} has values that are NaN or infinite")
    apart = {
        name: value.to(expected[name].dtype)
        for name, value in found.items()
        if name in expected and value.dtype in _FLOATS and expected[name].dtype in _FLOATS - {value.dtype}
    }
    if apart:
        kinds = sorted({str(found[name].dtype).removeprefix("torch.") for name in apart})
        rank_zero_info(f"{path.name} has weights of {' and '.join(kinds)}, which are computed with as float32")
    return {**found, **apart}


_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
