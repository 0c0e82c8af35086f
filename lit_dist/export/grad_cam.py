"""Grad-CAM: which places of an image speak for what a network says of it."""

import torch
from torch import Tensor, nn

from lit_dist.utils.errors import InputError

_LEAST = 4
"""The least places along a side of a map that tells where, unless the network has none so fine."""
_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""They may give more places than they get, all alike."""


def last_layer(network: nn.Module, image: Tensor) -> tuple[str, nn.Module, tuple[int, ...]]:
    """Find the last layer whose output still has places: of a convolutional network, the one before it pools them.

    Args:
        network: A network, in evaluation mode.
        image: An image as it takes it, float, (1, channels, height, width).

    Returns:
        The layer's name, itself, and how many places its output has, down and across. Where these are fewer than four
        by four, as of small images, it is the last one of the stage before that has so many; never a layer within a
        block that others go around.

    Raises:
        InputError: If there is none, or what follows it puts the places together in an order of its own, as
            transformers do.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
        >>> last_layer(network, torch.zeros(1, 3, 8, 8))[::2]
        ('0', (6, 6))
    """
    found: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module) -> None:
        def hook(*given: object) -> None:
            if isinstance(output := given[-1], Tensor):
                found.append((name, module, tuple(output.shape)))

        hooks.append(module.register_forward_hook(hook))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for name, module in network.named_modules():
            note(name, module)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            network(image)
    finally:
        for each in hooks:
            each.remove()
    blocks = [f"{name}." for name, module, shape in found if len(shape) == 4 and not _is_chain(module)]
    grids = [
        number
        for number, (name, module, shape) in enumerate(found)
        if _has_places(shape, image.shape) and not isinstance(module, _POOLS) and not name.startswith(tuple(blocks))
    ]
    if not grids:
        raise InputError("the network has no layer whose output is a grid of places, as a convolution's is")
    sides = {number: min(found[number][2][2:]) for number in grids}
    finer = [number for number in grids if _LEAST <= sides[number] < 2 * _LEAST]
    chosen = finer[-1] if finer and sides[grids[-1]] < _LEAST else grids[-1]
    if any(len(shape) == 3 for *_, shape in found[chosen + 1 :]):
        raise InputError("the network puts the places of its last grid into a sequence, as a transformer does")
    name, module, shape = found[chosen]
    return name, module, shape[2:]


def _is_chain(module: nn.Module) -> bool:
    """Whether each layer of a module gets all that the one before it gives; in a block some of it goes around."""
    return type(module).forward is nn.Sequential.forward


def _has_places(shape: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether an output is (1, channels, down, across), and not one that has the channels last."""
    if len(shape) != 4 or shape[2] * shape[3] < 2:
        return False
    down, across = shape[2] / image[2], shape[3] / image[3]
    return max(down, across) <= 1.5 * min(down, across)


def grad_cam(network: nn.Module, layer: nn.Module, images: Tensor, targets: list[int]) -> Tensor:
    """The places of images that speak for an output of a network.

    Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
    ICCV 2017, https://arxiv.org/abs/1610.02391.

    Args:
        network: A network, in evaluation mode; its outputs are logits, (images, outputs).
        layer: One of its layers, see ``last_layer``.
        images: As the network takes them, float, (images, channels, height, width).
        targets: The output of each image that is asked about.

    Returns:
        Float32, (images, height, width), on CPU, from 0; all 0 where no place speaks for it.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    with torch.enable_grad(), torch.compiler.set_stance("force_eager"):  # hooks see nothing of a compiled network
        method = LayerGradCam(network, layer)
        maps = method.attribute(images.detach().requires_grad_(), targets, relu_attributions=True)
    size = tuple(images.shape[2:])
    found: Tensor = LayerAttribution.interpolate(maps.detach().float(), size, "bilinear")
    return found.squeeze(1).cpu()
