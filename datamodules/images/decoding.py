"""Decoding image files."""

import io
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Kind = TypeVar("Kind", np.uint8, np.uint16)

SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".ppm")
MOST_PIXELS = 80_000_000
"""Of an image; cameras of the retina have up to about 20 million, the largest films of DDSM 45. A file that says it has
more may be meant to exhaust the memory."""
LEAST, LARGEST = 8, 8192
"""The least and the greatest side of prepared images, in pixels."""
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "PPM", "GIF", "WEBP")
"""What a file may be, whatever its suffix says. Pillow would also run PostScript."""


def decode(content: bytes) -> NDArray[np.uint8]:
    """Decode an image file's bytes whole; an EXIF tag that says how the camera was held is not followed.

    Returns:
        RGB, uint8, (height, width, 3).

    Raises:
        ValueError: See ``decoded``; or if the file has numbers that are not colours.
    """
    return decoded(content, _rgb)


def decoded(content: bytes, pixels: Callable[[Image.Image], NDArray[Kind]], otherwise: str = "") -> NDArray[Kind]:
    """The pixels of an image file.

    Args:
        content: The file's bytes.
        pixels: Gives them, or raises ValueError.
        otherwise: What it is neither, where it is not an image.

    Raises:
        ValueError: If the file is empty, not an image, ends too early, or says that it has more than ``MOST_PIXELS``.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it is said to have {image.width} x {image.height} pixels, more than {MOST_PIXELS}")
            image.load()
            return pixels(image)
    except UnidentifiedImageError:
        raise ValueError(f"it is neither {otherwise} nor an image" if otherwise else "it is not an image") from None
    except Exception as error:  # Pillow raises whatever damaged bytes lead it to
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def centre_square(content: bytes, size: int) -> NDArray[np.uint8]:
    """Decode an image file's bytes, and show the square around its centre.

    Returns:
        RGB, uint8, (size, size, 3).

    Raises:
        ValueError: See ``decode``; or if the image is too small to show anything.
    """
    image = decode(content)
    height, width = image.shape[:2]
    side = min(height, width)
    if side < LEAST:
        raise ValueError(f"it has {width} x {height} pixels, too few to show anything")
    top, left = (height - side) // 2, (width - side) // 2
    return resized(image[top : top + side, left : left + side], size)


def cut(image: NDArray[Kind], left: int, top: int, right: int, bottom: int, fill: int = 0) -> NDArray[Kind]:
    """A part of an image, with one grey where it reaches over the edges."""
    part = np.full((bottom - top, right - left, *image.shape[2:]), fill, image.dtype)
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    y, x = max(-top, 0), max(-left, 0)
    part[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return part


def resized(image: NDArray[Any], size: int) -> NDArray[Any]:
    """A square image at another size; averaging areas when shrinking keeps small things from falling between pixels."""
    how = cv2.INTER_AREA if len(image) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), dtype=image.dtype)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Eight bits a colour; Pillow itself would cut what is above 255 off."""
    if image.mode == "F":
        raise ValueError("its colours are fractions; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB"))
    return np.repeat((wide_greys(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)


def wide_greys(image: Image.Image) -> NDArray[np.uint16]:
    """The greys of an image of 16 or 32 bits a pixel; ValueError if they do not fit into 16 bits."""
    wide = np.asarray(image).astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise ValueError("its greys do not lie between 0 and 65535")
    return wide.astype(np.uint16)
