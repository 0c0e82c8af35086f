"""Augmentation of images, a whole batch at a time."""

from abc import ABC, abstractmethod

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lit_dist.errors import InputError
from lit_dist.seeding import uniforms
from lit_dist.threads import in_threads

Images = NDArray[np.uint8]
Seeds = NDArray[np.uint64]
_WORTH_THREADS = 2**20  # bytes of a batch


class Augmenter(ABC):
    """Changes the images of a batch by chance. An own one implements ``__call__``."""

    @abstractmethod
    def __call__(self, images: Images, seeds: Seeds) -> Images:
        """Augment a batch.

        Args:
            images: uint8, (images, height, width, channels). They may be changed in place.
            seeds: One an image, (images,): all chance is to be drawn from them, so that a visit can be repeated.

        Returns:
            uint8, of the same shape.
        """


class Augmentation(Augmenter):
    """Turns, mirrors, shifts and optionally brightens images.

    An image is resampled once, bilinearly, for its rotation, shift and mirroring together, by OpenCV. Without a
    rotation pixels are moved, never mixed.

    Args:
        rotation: The greatest angle, in degrees, either way; 180 allows every angle.
        horizontal_flip: Whether left and right are swapped in half of the cases.
        vertical_flip: Whether top and bottom are swapped in half of the cases.
        brightness: The greatest change of brightness and of contrast, as a share.
        shift: The greatest shift in either direction, as a share of the side, in whole pixels.
        fill: The grey value, 0 to 255, of corners that a rotation or a shift leaves empty.

    Raises:
        InputError: If a setting is out of range.

    Example:
        >>> images = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
        >>> seeds = np.array([1, 2], np.uint64)
        >>> augment = Augmentation()
        >>> (augment(images, seeds) == augment(images, seeds)).all()
        np.True_
    """

    def __init__(
        self,
        rotation: float = 180.0,
        horizontal_flip: bool = True,
        vertical_flip: bool = True,
        brightness: float = 0.0,
        shift: float = 0.0,
        fill: int = 0,
    ) -> None:
        for name, value, most in (
            ("rotation", rotation, 180),
            ("brightness", brightness, 0.9),
            ("shift", shift, 1),
            ("fill", fill, 255),
        ):
            if not 0 <= value <= most:
                raise InputError(f"{name}={value} does not lie between 0 and {most}")
        self.rotation = rotation
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.brightness = brightness
        self.shift = shift
        self.fill = fill

    def __call__(self, images: Images, seeds: Seeds) -> Images:
        """Augment a batch."""
        chance = uniforms(seeds, 7)
        flips = (chance[:, :2] < 0.5) & (self.horizontal_flip, self.vertical_flip)
        if self.rotation or self.shift:
            images = self._warped(images, chance[:, 2], chance[:, 3:5], flips)
        else:
            images = _flipped(images, flips)
        return self._brightened(images, chance[:, 5:]) if self.brightness else images

    def _warped(
        self, images: Images, turn: NDArray[np.float64], move: NDArray[np.float64], flips: NDArray[np.bool_]
    ) -> Images:
        """Turn, then mirror, about the centre, then shift."""
        height, width = images.shape[1:3]
        angle = np.deg2rad(self.rotation) * (2 * turn - 1)
        mirror = np.where(flips, -1.0, 1.0)
        turned = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
        centre = (np.array([width, height]) - 1) / 2
        matrices = np.empty((len(images), 2, 3))
        matrices[:, :, :2] = mirror[:, :, None] * turned
        offset = np.rint(self.shift * (2 * move - 1) * (width, height))
        matrices[:, :, 2] = centre + offset - matrices[:, :, :2] @ centre
        return self._resampled(images, matrices)

    def _resampled(self, images: Images, matrices: NDArray[np.float64]) -> Images:
        """Apply a matrix to each image; large images on as many threads as torch may have, in a worker one."""
        height, width, channels = images.shape[1:]
        how = cv2.INTER_LINEAR if self.rotation else cv2.INTER_NEAREST
        # OpenCV is a third faster with four colours than with three, and gives the same ones.
        result = np.empty((len(images), height, width, 4 if channels == 3 else channels), np.uint8)

        def resample(number: int) -> None:
            image = cv2.cvtColor(images[number], cv2.COLOR_RGB2RGBA) if channels == 3 else images[number]
            warped = cv2.warpAffine(image, matrices[number], (width, height), flags=how, borderValue=[self.fill] * 4)
            result[number] = warped.reshape(result[number].shape)

        if images.nbytes > _WORTH_THREADS and torch.get_num_threads() > 1:
            in_threads(resample, range(len(images)))
        else:
            for number in range(len(images)):
                resample(number)
        return result[..., :channels]

    def _brightened(self, images: Images, chance: NDArray[np.float64]) -> Images:
        """Move the greys up or down, and away from the middle grey or towards it."""
        change = self.brightness * (2 * chance - 1)
        greys = (np.arange(256) - 127.5) * (1 + change[:, :1]) + 127.5 + 255 * change[:, 1:]
        tables = np.clip(np.rint(greys), 0, 255).astype(np.uint8)
        return np.stack([table[image] for table, image in zip(tables, images, strict=True)])


def _flipped(images: Images, flips: NDArray[np.bool_]) -> Images:
    result = images.copy()
    horizontal, vertical = flips.T
    result[horizontal] = result[horizontal][:, :, ::-1]
    result[vertical] = result[vertical][:, ::-1]
    return result
