"""Finding and decoding image files."""

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lit_dist.errors import InputError

SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".ppm")


def find_images(folder: Path) -> dict[str, Path]:
    """List a folder's image files by name without suffix.

    Raises:
        InputError: If the folder is missing or holds no images, or two files differ by their suffix alone.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder of images at {folder}")
    found: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in SUFFIXES:
                continue
            if name in found:
                raise InputError(f"{folder} holds both {found[name].name} and {entry.name}; keep one of them")
            found[name] = Path(entry.path)
    if not found:
        raise InputError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return found


def decode(content: bytes) -> NDArray[np.uint8]:
    """Decode an image file whole; an EXIF tag that says how the camera was held is not followed.

    Args:
        content: The file's bytes.

    Returns:
        RGB, uint8, (height, width, 3).

    Raises:
        ValueError: If the file is empty, is no image, ends too early, or is so large that it may be meant to exhaust
            the memory.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError("it is not an image") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
