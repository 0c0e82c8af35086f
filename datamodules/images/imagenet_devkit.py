"""Reading ImageNet's development kit: which class each validation image has."""

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lit_dist.datamodules.label_table import read_lines
from lit_dist.utils.errors import InputError

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_PLACES = ("ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "data", "")
_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def find_devkit(root: Path) -> Path | None:
    """The folder with the ground truth of the validation images: the kit's, as it unpacks, or ``root`` itself."""
    return next((root / place for place in _PLACES if os.path.isfile(root / place / TRUTH)), None)


def read_devkit(folder: Path) -> list[str]:
    """Read the WordNet id of each validation image, in the order of their numbers from 1.

    Args:
        folder: With ``ILSVRC2012_validation_ground_truth.txt``, a line an image, and ``meta.mat``, which says which
            class a number there means.

    Raises:
        InputError: If one of the files is not there or not as published; the message names the line.
    """
    wnids = _read_meta(folder / _META)
    path = folder / TRUTH
    classes = []
    for number, line in enumerate(read_lines(path), start=1):
        text = line.strip()
        wnid = wnids.get(int(text)) if text.isascii() and text.isdecimal() and len(text) < 9 else None
        if wnid is None:
            raise InputError(f"{path}, line {number}: {text[:40]!r} is not the number of a class in {_META}")
        classes.append(wnid)
    if not classes:
        raise InputError(f"{path} is empty")
    return classes


def image_number(name: str) -> int | None:
    """The number of a validation image by its name; None if it is not named as those are.

    Example:
        >>> image_number("ILSVRC2012_val_00000293.JPEG")
        293
    """
    match = _IMAGE.fullmatch(name)
    return int(match[1]) if match else None


def image_name(number: int) -> str:
    """The name of a validation image by its number."""
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def _read_meta(path: Path) -> dict[int, str]:
    """The WordNet ids of the classes by their numbers in the ground truth; groups of classes have numbers, too."""
    if not os.path.isfile(path):
        raise InputError(f"there is no {path}, which says what the numbers in {TRUTH} mean; it is in the same archive")
    from scipy.io import loadmat

    try:
        synsets: NDArray[np.void] = loadmat(path, squeeze_me=True, variable_names=["synsets"])["synsets"]
        columns = [np.atleast_1d(synsets[name]) for name in ("ILSVRC2012_ID", "WNID", "num_children")]
        wnids = {int(number): str(wnid) for number, wnid, children in zip(*columns, strict=True) if int(children) == 0}
    except Exception as error:  # SciPy raises whatever damaged bytes lead it to
        raise InputError(f"{path} cannot be read as ImageNet's table of classes: {error!r:.200}") from None
    return wnids
