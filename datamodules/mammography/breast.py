"""Preparation of mammograms: the breast alone, always on the same side, in its own range of greys."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_dist.datamodules.images.decoding import MOST_PIXELS, cut, resized

Film = NDArray[np.uint16]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of a film's width and height."""

VERSION = 1
"""Counts changes of the result, so that no cache mixes them."""

_SEARCHED = 512  # the breast is looked for at this longest side, in pixels: labels are as thick there on every film
_OPENED = (
    29  # what is narrower, in those pixels, does not hold a label, a frame or the film's rim and the breast together
)
_GROWN = 9  # gives back what the opening took off the corners, in those pixels
_ABOVE = 0.4  # how far from the background's grey to Otsu's threshold the skin line is
_FADED = 61  # twice how far from the breast, in those pixels, its faint rim may reach
_SMALLEST = 0.02  # the least share of the film that is a breast


def square_around(centre: tuple[float, float], half: float, size: tuple[int, int]) -> Box:
    """The square around a place of a film; it may reach over the film's edges.

    Args:
        centre: Its column and row, in pixels.
        half: Half the square's side, in pixels.
        size: The film's width and height, in pixels.

    Example:
        >>> square_around((50, 50), 25, (100, 200))
        (0.25, 0.125, 0.75, 0.375)
    """
    (x, y), (width, height) = centre, size
    return (x - half) / width, (y - half) / height, (x + half) / width, (y + half) / height


def prepare_breast(film: Film, size: int = 256, box: Box | None = None) -> Image:
    """Show the breast of a whole film, or a part of it, with the chest wall at the left.

    Labels, tape and everything else outside the breast become black. The breast's bounding box, or the given box, is
    padded to a square, so that shapes stay as they are, and resized by averaging areas, on the film's 16 bits. Then
    the greys from the 1st to the 99th percentile of the breast are spread over the 8 bits that remain.

    Args:
        film: Greyscale, uint16, (height, width), bright where tissue is dense.
        size: The result's side, in pixels.
        box: The part of the film to show, instead of the whole breast.

    Returns:
        Three equal colours, uint8, (size, size, 3).

    Raises:
        ValueError: If the film shows no breast, or the part is too large to be one of a film.
    """
    mask = breast_mask(film)
    mirrored = chest_is_right(mask)
    left, top, right, bottom = _pixels(box, film.shape) if box else _bounds(mask)
    part, inside = (_cut(array, left, top, right, bottom) for array in (film, mask.astype(np.uint16)))
    if mirrored:
        part, inside = part[:, ::-1], inside[:, ::-1]
    low, high = np.percentile(film[mask], (1, 99))
    return _resized(part * inside, size, low, high, inside)


def prepare_crop(crop: Film, size: int = 256, mirrored: bool = False) -> Image:
    """Show a part of a breast that was cut out already; what is exactly black is not tissue.

    Args:
        crop: Greyscale, uint16, (height, width).
        size: The result's side, in pixels.
        mirrored: Whether left and right are swapped, as for a right breast: a crop does not show the chest wall.

    Returns:
        Three equal colours, uint8, (size, size, 3).

    Raises:
        ValueError: If all of it is of one grey, or it is too long to be shown in a square.
    """
    if crop.min() == crop.max():
        raise ValueError("it shows nothing: all of it is of one grey")
    low, high = np.percentile(crop[crop > 0], (1, 99))
    part = crop[:, ::-1] if mirrored else crop
    return _resized(part, size, low, high, np.ones_like(part))


def breast_mask(film: Film) -> Mask:
    """Where the breast is: the largest bright part, once thin bridges to labels, tape and frames are cut.

    Of the 322 films of mini-MIAS, looked at one by one, it takes a label or tape for breast on four, and loses fat on
    one. On 66 films of DDSM, its mean overlap (intersection over union) with the outlines that
    https://github.com/tiryakiv/Mammogram-segmentation publishes is 0.94.

    Args:
        film: Greyscale, uint16, (height, width).

    Raises:
        ValueError: If there is no such part.
    """
    height, width = film.shape
    if film.min() == film.max():
        raise ValueError("it shows nothing: all of it is of one grey")
    scale = min(1.0, _SEARCHED / max(height, width))
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(film, shape, interpolation=cv2.INTER_AREA), dtype=np.uint16)
    bright = _bright(small)
    # Beyond the film's edge there is nothing: otherwise no edge of the film, however thin its bright rim, is opened.
    border = cv2.BORDER_CONSTANT | cv2.BORDER_ISOLATED
    eroded = cv2.erode(bright, _disc(_OPENED), borderType=border, borderValue=0)
    part = _largest(np.asarray(cv2.dilate(eroded, _disc(_OPENED)), dtype=np.uint8))
    if part is None or part.mean() < _SMALLEST:
        raise ValueError("it shows no breast: nothing large stands out from the background")
    grown = np.asarray(cv2.dilate(part, _disc(_GROWN)), dtype=np.uint8) & bright
    mask = cv2.resize(_filled(grown), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(mask > 0)


def chest_is_right(mask: Mask) -> bool:
    """Whether the chest wall is at the right: the breast ends there in a long straight edge, and in a tip opposite."""
    left, top, right, bottom = _bounds(mask)
    part = mask[top:bottom, left:right]
    edge = max(1, part.shape[1] // 10)
    return bool(part[:, -edge:].sum() > part[:, :edge].sum())


def _bright(small: Film) -> Image:
    """What stands out from the background, 0 or 1.

    Otsu's threshold (1979) alone parts dense tissue from fat, and loses the fat below the skin.
    """
    most = float(np.percentile(small, 99.5)) or 1.0
    root = np.sqrt(np.minimum(small / most, 1.0))  # the skin line is faint: the root sets it apart from the dark
    grey = cv2.GaussianBlur(np.asarray(255 * root, dtype=np.uint8), (0, 0), 1.5)
    otsu, _ = cv2.threshold(grey[grey > 0], 0, 255, cv2.THRESH_OTSU)
    away = cv2.dilate(np.asarray(grey > otsu, dtype=np.uint8), _disc(_FADED)) == 0
    dark = grey[away & (small > 0)]  # what the scanner has padded is exactly black, and no background
    background = float(np.median(dark)) if dark.size > _SMALLEST * grey.size else 0.0
    return np.asarray(grey > background + _ABOVE * (otsu - background), dtype=np.uint8)


def _largest(binary: Image) -> Image | None:
    number, parts, statistics, _ = cv2.connectedComponentsWithStats(binary, connectivity=4)
    if number < 2:
        return None
    return np.asarray(parts == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax(), dtype=np.uint8)


def _filled(binary: Image) -> Image:
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(binary), contours, -1, 1, -1), dtype=np.uint8)


def _disc(side: int) -> Image:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _pixels(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    height, width = shape
    left, top, right, bottom = (round(share * side) for share, side in zip(box, (width, height) * 2, strict=True))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _cut(array: Film, left: int, top: int, right: int, bottom: int) -> Film:
    if (bottom - top) * (right - left) > MOST_PIXELS:
        raise ValueError(f"the part to show has {right - left} x {bottom - top} pixels, with what is around it")
    return cut(array, left, top, right, bottom)


def _resized(part: Film, size: int, low: float, high: float, inside: Film) -> Image:
    """Pad to a square at the right, and above and below alike; resize; spread the greys; black outside."""
    height, width = part.shape
    side = max(height, width)
    top = (side - height) // 2
    squares = (_cut(np.ascontiguousarray(array), 0, -top, side, side - top) for array in (part, inside))
    grey, within = (resized(square.astype(np.float32), size) for square in squares)
    spread = np.clip((grey - low * within) / max(high - low, 1.0), 0, 1)
    return np.repeat(np.asarray(np.rint(255 * spread), dtype=np.uint8)[:, :, None], 3, axis=2)
