"""Albumentations: any pipeline of that library, an image at a time."""

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from lit_dist.datamodules.images.augmentation import Augmenter, Images, Seeds
from lit_dist.utils.errors import InputError

Transform = str | dict[str, dict[str, Any]]


class Albumentations(Augmenter):
    """Augments by transforms of albumentations, named with their settings.

    In a configuration::

        augmentation:
          class_path: Albumentations
          init_args:
            transforms:
            - HorizontalFlip
            - RandomBrightnessContrast: {brightness_limit: 0.1, p: 0.5}

    They are imported at the first use, and do not ask the package index for updates. An image costs more than with
    ``Augmentation``, which does the usual things to a whole batch.

    Source: Buslaev et al., "Albumentations: fast and flexible image augmentations", Information 2020,
    https://doi.org/10.3390/info11020125.

    Args:
        transforms: The transforms, in their order: names of albumentations' classes, or names with settings. They are
            to keep an image's size.

    Raises:
        InputError: If albumentations has no such transform, or it does not take the settings.
    """

    def __init__(self, transforms: list[Transform]) -> None:
        self.transforms = [(item, {}) if isinstance(item, str) else _named(item) for item in transforms]
        self._pipeline: Any = None

    def __call__(self, images: Images, seeds: Seeds) -> Images:
        """Augment a batch."""
        if self._pipeline is None:
            self._pipeline = _build(self.transforms)
        return np.stack([self._augmented(image, int(seed)) for image, seed in zip(images, seeds, strict=True)])

    def _augmented(self, image: Images, seed: int) -> Images:
        # set_random_seed would give every transform the same stream, so that both flips always come together.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        augmented: Images = self._pipeline(image=image)["image"]
        if augmented.shape != image.shape or augmented.dtype != image.dtype:
            raise InputError(
                f"transforms={self.transforms} make an image of shape {augmented.shape} and type {augmented.dtype} of"
                f" one of shape {image.shape} and type {image.dtype}; take transforms that keep both"
            )
        return augmented

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pipeline": None}  # each worker process builds its own


def _named(item: Mapping[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    if len(item) != 1:
        raise InputError(f"transforms: {dict(item)} is not one name with its settings")
    ((name, settings),) = item.items()
    return name, dict(settings or {})


def _build(transforms: Sequence[tuple[str, dict[str, Any]]]) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the package index at import otherwise
    import albumentations

    built = []
    for name, settings in transforms:
        kind = getattr(albumentations, name, None)
        if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
            raise InputError(f"transforms: albumentations has no transform {name!r}")
        if issubclass(kind, albumentations.Lambda) and isinstance(settings.get("image"), str):
            raise InputError(f"transforms: {name} takes functions, which settings cannot name; take another transform")
        try:
            built.append(kind(**settings))
        except (TypeError, ValueError) as error:
            raise InputError(f"transforms: {name} does not take {settings}: {error}") from None
    return albumentations.Compose(built)
