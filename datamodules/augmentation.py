"""Augmentation of photographs whose orientation carries no meaning."""

import os
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dist.errors import InputError

Image = NDArray[np.uint8]


class Augmentation:
    """Turns, mirrors and optionally brightens an image, by chance drawn from the image's seed alone.

    The transforms are albumentations'. They are imported at the first use, and do not ask the package index for
    updates.

    Args:
        rotation: The greatest angle, in degrees, either way; 180 allows every angle.
        horizontal_flip: Whether left and right are swapped in half of the cases.
        vertical_flip: Whether top and bottom are swapped in half of the cases.
        brightness: The greatest change of brightness and of contrast, as a share.
        shift: The greatest shift in either direction, as a share of the side.
        fill: The grey value, 0 to 255, of corners that a rotation or a shift leaves empty.

    Raises:
        InputError: If a setting is out of range.

    Example:
        >>> image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        >>> augment = Augmentation()
        >>> (augment(image, seed=1) == augment(image, seed=1)).all()
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
        self._pipeline: Any = None

    def __call__(self, image: Image, seed: int) -> Image:
        """Augment an image.

        Args:
            image: uint8, (height, width, 3).
            seed: All chance is drawn from it.
        """
        if self._pipeline is None:
            self._pipeline = self._build()
        # set_random_seed would give every transform the same stream, so that both flips always come together.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        augmented: Image = self._pipeline(image=image)["image"]
        return augmented

    def _build(self) -> Any:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the package index at import otherwise
        import albumentations as A

        transforms: list[Any] = []
        if self.rotation:
            transforms.append(A.Rotate(limit=(-self.rotation, self.rotation), fill=self.fill, border_mode=0, p=1.0))
        if self.shift:
            limits = {axis: (-self.shift, self.shift) for axis in "xy"}
            transforms.append(A.Affine(translate_percent=limits, fill=self.fill, border_mode=0, p=1.0))
        if self.horizontal_flip:
            transforms.append(A.HorizontalFlip(p=0.5))
        if self.vertical_flip:
            transforms.append(A.VerticalFlip(p=0.5))
        if self.brightness:
            limit = (-self.brightness, self.brightness)
            transforms.append(A.RandomBrightnessContrast(brightness_limit=limit, contrast_limit=limit, p=1.0))
        return A.Compose(transforms)
