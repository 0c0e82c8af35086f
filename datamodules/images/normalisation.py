"""Normalisation: uint8 images made float, as networks want them."""

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of the three colours, in the range 0 to 1: what torchvision's pretrained weights expect."""


class Normalisation:
    """Subtracts each colour's mean, in the range 0 to 1, and divides by its standard deviation, on the images' device.

    Example:
        >>> Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
        tensor([1., 1., 1.])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = tuple(mean), tuple(std)
        self._scale = 1 / (255 * torch.tensor(std).view(3, 1, 1))
        self._offset = (torch.tensor(mean) / torch.tensor(std)).view(3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise a batch, uint8, (images, 3, height, width); gives float32."""
        if self._scale.device != images.device:
            self._scale, self._offset = self._scale.to(images.device), self._offset.to(images.device)
        # One pass over the pixels makes them float and puts the colours apart; the rest needs no new memory.
        images = images.to(torch.float32, memory_format=torch.contiguous_format)
        return images.mul_(self._scale).sub_(self._offset)
