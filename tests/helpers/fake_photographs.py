"""Writes a small folder in ImageNet's layout, with coloured noise."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photographs(root: Path, classes: int = 10, images: int = 12, size: int = 24) -> Path:
    """Each class has a colour of its own."""
    for label in range(classes):
        folder = root / "train" / f"n{label:08d}"
        folder.mkdir(parents=True)
        for number in range(images):
            chance = np.random.default_rng([label, number])
            pixels = chance.integers(0, 100, (size, size, 3)) + np.array([15 * label, 10 * label, 150 - 15 * label])
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root
