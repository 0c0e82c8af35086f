"""Draws photographs of one colour a class and writes them in the layouts that ImageNetDataModule reads."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"cat": (200, 60, 40), "dog": (40, 180, 60), "owl": (50, 70, 210)}


def draw(path: Path, colour: tuple[int, int, int], number: int) -> None:
    """A coloured JPEG with some noise; each third is wider or higher than a square, some are grey and one is CMYK."""
    chance = np.random.default_rng([number, *colour])
    height, width = ((20, 20), (20, 31), (28, 20))[number % 3]
    pixels = np.clip(np.array(colour) + chance.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    mode = "L" if number % 7 == 5 else "CMYK" if number == 2 else "RGB"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path, "JPEG", quality=95)


def write_devkit(folder: Path, truth: list[str]) -> None:
    """ImageNet's development kit: numbers of classes that are in another order than their names, and a group."""
    from scipy.io import savemat

    folder.mkdir(parents=True)
    names = [*reversed(COLOURS), "animal"]
    fields = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")]
    synsets = np.zeros((len(names), 1), fields)
    for row, name in enumerate(names):
        children = [1, 2, 3] if name == "animal" else []
        synsets[row, 0] = (row + 1, name, f"{name}, beast", "a beast", len(children), children)
    savemat(folder / "meta.mat", {"synsets": synsets})
    lines = "".join(f"{names.index(name) + 1}\n" for name in truth)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)


def write(root: Path, layout: str = "tiny", train: int = 24, test: int = 6) -> Path:
    """A collection in one of the layouts ``tiny``, ``official``, ``flat`` (with the kit), ``plain`` and ``no val``."""
    rows = []
    for label, (name, colour) in enumerate(COLOURS.items()):
        for number in range(train):
            folder = {
                "tiny": f"train/{name}/images",
                "official": f"train/{name}",
                "flat": f"train/{name}",
                "plain": name,
                "no val": f"train/{name}",
            }
            draw(root / folder[layout] / f"{name}_{number}.JPEG", colour, number)
        for number in range(test):
            if layout == "tiny":
                draw(root / f"val/images/val_{number * 3 + label}.JPEG", colour, 100 + number)
                rows.append(f"val_{number * 3 + label}.JPEG\t{name}\t0\t0\t19\t19\n")
            elif layout == "flat":
                draw(root / f"val/ILSVRC2012_val_{number * 3 + label + 1:08d}.JPEG", colour, 100 + number)
            elif layout == "official":
                draw(root / f"val/{name}/ILSVRC2012_val_{number}_{label}.JPEG", colour, 100 + number)
    if layout == "tiny":
        (root / "val" / "val_annotations.txt").write_text("".join(rows))
    if layout == "flat":
        write_devkit(root / "ILSVRC2012_devkit_t12/data", list(COLOURS) * test)
    return root
