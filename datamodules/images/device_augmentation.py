"""DeviceAugmentation: what Augmentation does, done where the network is."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from lit_dist.datamodules.images.augmentation import Augmentation, Seeds


class DeviceAugmentation(Augmentation):
    """Cuts out, turns, mirrors, shifts and brightens images on the device, a whole batch at once.

    The settings and the chance are those of ``Augmentation``; the greys may differ a little, by one or two from those
    of OpenCV 5, and by a few from those of OpenCV 4, which takes the places between pixels less exactly. It is for a
    GPU that would wait for the processor; on a processor it is slower.

    A loader draws the chance and sends it along with the bytes: a batch leaves it as ``(images, labels, changes)``. The
    datamodule makes ``(images, labels)`` of it on the device, so the trainer is to be given the datamodule itself.

    Example:
        >>> images = torch.arange(96, dtype=torch.uint8).reshape(2, 4, 4, 3).permute(0, 3, 1, 2)
        >>> augment = DeviceAugmentation(rotation=0, vertical_flip=False)
        >>> changed = augment.changed(images, augment.changes(np.array([2, 3], np.uint64), 4, 4))
        >>> [torch.equal(after, before.flip(-1)) for after, before in zip(changed, images)]
        [False, True]
    """

    def changes(self, seeds: Seeds, height: int, width: int) -> Tensor:
        """What is to be done to each image of a batch.

        Args:
            seeds: One an image, (images,).
            height: Of the images, in pixels.
            width: Of the images, in pixels.

        Returns:
            float32, (images, 8): the six numbers of the matrix that gives where each pixel is from, in torch's
            coordinates from -1 to 1, and the changes of contrast and brightness.
        """
        chance = self._chance(seeds)
        forward = np.zeros((len(seeds), 3, 3))
        forward[:, :2], forward[:, 2, 2] = self._matrices(chance, height, width), 1
        most = np.maximum(np.array([width, height]) - 1, 1)  # the greatest coordinates, in pixels
        pixels = np.array([[most[0] / 2, 0, most[0] / 2], [0, most[1] / 2, most[1] / 2], [0, 0, 1]])
        origins = (np.linalg.inv(pixels) @ np.linalg.inv(forward) @ pixels)[:, :2].reshape(-1, 6)
        return torch.from_numpy(np.concatenate([origins, self._greys(chance)], axis=1)).float()

    def changed(self, images: Tensor, changes: Tensor) -> Tensor:
        """Do it.

        Args:
            images: uint8, (images, channels, height, width).
            changes: As ``changes`` gives them, on the same device.

        Returns:
            uint8, of the same shape.
        """
        y, x = (torch.linspace(-1, 1, side, device=images.device) for side in images.shape[2:])
        along, down, more = changes[:, :6].reshape(-1, 1, 1, 2, 3).unbind(-1)
        # Not by torch's affine_grid, which multiplies matrices: on a GPU that may be with ten bits of precision.
        grid = along * x[:, None] + down * y[:, None, None] + more
        how = "bilinear" if self._mixes() else "nearest"
        # What lies outside of an image is taken as 0.
        greys = grid_sample(images.float() - self.fill, grid, how, "zeros", align_corners=True).round() + self.fill
        if self.brightness:
            contrast, brighter = changes[:, 6:].reshape(-1, 2, 1, 1, 1).unbind(1)
            greys = (greys - 127.5) * (1 + contrast) + 127.5 + 255 * brighter
        return greys.round().clamp(0, 255).to(torch.uint8)
