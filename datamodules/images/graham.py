"""Graham's preparation of fundus photographs."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_dist.datamodules.images.decoding import MOST_PIXELS, cut

Image = NDArray[np.uint8]

GREY = 128
"""The grey value of what lies outside the retina."""

VERSION = 1
"""Counts changes of the result, so that no cache mixes them."""


def graham(photograph: Image, radius: int = 300, size: int = 256) -> Image:
    """Bring a photograph to a standard radius and remove its local average colour.

    What remains are details: vessels and lesions, without the lighting and the tint of the camera. The image is scaled
    so that the retina has the given radius; four times its difference from its own blur (sigma: a thirtieth of the
    radius) is put on grey; outside 90 % of the radius it is grey; then the square around the retina is resized.

    Source: Graham, "Kaggle diabetic retinopathy detection competition report", University of Warwick, 2015.

    Args:
        photograph: RGB, uint8, (height, width, 3), of any size.
        radius: The retina's radius at which details are judged, in pixels.
        size: The result's side, in pixels.

    Returns:
        RGB, uint8, (size, size, 3).

    Raises:
        ValueError: If the photograph shows no bright disc, or one that is tiny beside the whole.
    """
    scale = radius / _retina_radius(photograph)
    if scale**2 * photograph[..., 0].size > MOST_PIXELS:
        raise ValueError("it shows no retina: the bright part of its middle row is tiny beside the whole")
    # Averaging areas when shrinking keeps small lesions from falling between the pixels.
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=interpolation)
    blurred = cv2.GaussianBlur(scaled, (0, 0), radius / 30)
    details = cv2.addWeighted(scaled, 4, blurred, -4, GREY)
    return _on_disc(np.asarray(details, dtype=np.uint8), radius, size)


def _retina_radius(photograph: Image) -> float:
    """Half the width of what is bright in the middle row."""
    row = photograph[photograph.shape[0] // 2].sum(axis=1, dtype=np.int64)
    bright = int((row > row.mean() / 10).sum())
    if row.max() < 30 or bright < 8:
        raise ValueError("it shows no retina: its middle row is dark")
    return bright / 2


def _on_disc(details: Image, radius: int, size: int) -> Image:
    """Cut the square around the centre out, and grey what lies outside 90 % of the radius."""
    top, left = ((side - 2 * radius) // 2 for side in details.shape[:2])
    square = cut(details, left, top, left + 2 * radius, top + 2 * radius, GREY)
    disc = cv2.circle(np.zeros(square.shape[:2], np.uint8), (radius, radius), int(0.9 * radius), 1, -1)
    square[disc == 0] = GREY
    resized = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)
