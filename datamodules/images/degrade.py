"""Images as a poorer camera would have taken them."""

import cv2
import numpy as np
from numpy.typing import NDArray


def degraded(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Lower an image's resolution: make it smaller, and as large as it was again.

    Args:
        image: uint8, (height, width, 3).
        factor: By how much it is made smaller; 1 leaves it as it is.

    Returns:
        uint8, of the same shape.

    Example:
        >>> degraded(np.zeros((8, 8, 3), np.uint8), 4).shape
        (8, 8, 3)
    """
    if factor <= 1:
        return image
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
