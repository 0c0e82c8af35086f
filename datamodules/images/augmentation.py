"""Augmentation of images, a whole batch at a time."""

from abc import ABC, abstractmethod

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lit_dist.utils.setting_checks import check_range
from lit_dist.utils.threads import in_threads
from lit_dist.visits.seeding import uniforms

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
    """Cuts out, turns, mirrors, shifts and optionally brightens images.

    An image is resampled once, bilinearly, for all of these together, by OpenCV. Where nothing is cut out or turned,
    pixels are moved, never mixed.

    Args:
        rotation: The greatest angle, in degrees, either way; 180 allows every angle.
        horizontal_flip: Whether left and right are swapped in half of the cases.
        vertical_flip: Whether top and bottom are swapped in half of the cases.
        brightness: The greatest change of brightness and of contrast, as a share.
        shift: The greatest shift in either direction, as a share of the side, in whole pixels.
        crop: The least share of an image's area that is cut out and enlarged to the whole; 1 cuts nothing out.
            Networks are usually trained on ImageNet with 0.08, and a ``stretch`` of 4/3 (Szegedy et al., "Going deeper
            with convolutions", CVPR 2015, https://arxiv.org/abs/1409.4842).
        stretch: The greatest ratio of the width to the height of what is cut out, or of the height to the width, in
            images that are square; less where the area leaves no room for it.
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
        crop: float = 1.0,
        stretch: float = 1.0,
        fill: int = 0,
    ) -> None:
        check_range(0, 180, rotation=rotation)
        check_range(0, 0.9, brightness=brightness)
        check_range(0, 1, shift=shift)
        check_range(0.01, 1, crop=crop)
        check_range(1, 4, stretch=stretch)
        check_range(0, 255, fill=fill)
        self.rotation = rotation
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.brightness = brightness
        self.shift = shift
        self.crop = crop
        self.stretch = stretch
        self.fill = fill

    def __call__(self, images: Images, seeds: Seeds) -> Images:
        """Augment a batch."""
        chance = self._chance(seeds)
        if self._mixes() or self.shift:
            images = self._resampled(images, self._matrices(chance, *images.shape[1:3]))
        else:
            images = _flipped(images, self._flips(chance))
        return self._brightened(images, chance) if self.brightness else images

    def _chance(self, seeds: Seeds) -> NDArray[np.float64]:
        """All that is drawn for each image, between 0 and 1, (images, 11)."""
        return uniforms(seeds, 11)

    def _mixes(self) -> bool:
        return self.rotation > 0 or self.crop < 1

    def _flips(self, chance: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (chance[:, :2] < 0.5) & (self.horizontal_flip, self.vertical_flip)

    def _matrices(self, chance: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
        """Where each image's pixels go, (images, 2, 3): cut out, turn, mirror about the centre, then shift."""
        turn, move = chance[:, 2], chance[:, 3:5]
        angle = np.deg2rad(self.rotation) * (2 * turn - 1)
        mirror = np.where(self._flips(chance), -1.0, 1.0)
        turned = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
        centre = (np.array([width, height]) - 1) / 2
        matrices = np.empty((len(chance), 2, 3))
        matrices[:, :, :2] = mirror[:, :, None] * turned
        offset = np.rint(self.shift * (2 * move - 1) * (width, height))
        matrices[:, :, 2] = centre + offset - matrices[:, :, :2] @ centre
        return matrices if self.crop == 1 else matrices @ self._cuts(chance[:, 7:], height, width)

    def _cuts(self, chance: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
        """What enlarges a part of each image to the whole, (images, 3, 3)."""
        area = self.crop + (1 - self.crop) * chance[:, 0]
        ratio = np.clip(self.stretch ** (2 * chance[:, 1] - 1), area, 1 / area)  # no side is longer than the image's
        share = np.sqrt(np.stack([area * ratio, area / ratio], axis=1))
        # From the centre of a pixel to that of another, so that nothing beyond the border is mixed in.
        begins = chance[:, 2:] * (1 - share) * (width - 1, height - 1)
        cuts = np.zeros((len(chance), 3, 3))
        cuts[:, [0, 1], [0, 1]] = 1 / share
        cuts[:, :2, 2] = -begins / share
        cuts[:, 2, 2] = 1
        return cuts

    def _resampled(self, images: Images, matrices: NDArray[np.float64]) -> Images:
        """Apply a matrix to each image; large images on as many threads as torch may have, in a worker one."""
        height, width, channels = images.shape[1:]
        how = cv2.INTER_LINEAR if self._mixes() else cv2.INTER_NEAREST
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

    def _greys(self, chance: NDArray[np.float64]) -> NDArray[np.float64]:
        """By which share greys go away from the middle grey, and by which of all greys they go up, (images, 2)."""
        return self.brightness * (2 * chance[:, 5:7] - 1)

    def _brightened(self, images: Images, chance: NDArray[np.float64]) -> Images:
        change = self._greys(chance)
        greys = (np.arange(256) - 127.5) * (1 + change[:, :1]) + 127.5 + 255 * change[:, 1:]
        tables = np.clip(np.rint(greys), 0, 255).astype(np.uint8)
        return np.stack([table[image] for table, image in zip(tables, images, strict=True)])


def _flipped(images: Images, flips: NDArray[np.bool_]) -> Images:
    result = images.copy()
    horizontal, vertical = flips.T
    result[horizontal] = result[horizontal][:, :, ::-1]
    result[vertical] = result[vertical][:, ::-1]
    return result
