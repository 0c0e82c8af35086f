"""Whether 8 bits suffice for prepared films: the finest detail of them, beside what rounding adds.

python benchmarks/film_greys.py FILM ... --sizes 256 512 1024
"""

import argparse
import statistics
from pathlib import Path

import cv2
import numpy as np

from lit_dist.datamodules.mammography import breast
from lit_dist.datamodules.mammography.films import decode_film

ROUNDING = 12**-0.5
"""The standard deviation of what rounding to whole greys adds."""
_DETAIL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6  # of noise it keeps the standard deviation


def detail(film: Path, size: int) -> float:
    """The standard deviation, in greys of 8 bits, of what neighbouring pixels of the breast do not share."""
    greys = breast.prepare_breast(decode_film(film.read_bytes()), size)[..., 0]
    inside = cv2.erode(((greys > 0) & (greys < 255)).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return float(cv2.filter2D(greys, cv2.CV_64F, _DETAIL)[inside].std())


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, nargs="+")
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512, 1024])
    options = parser.parse_args()
    for size in options.sizes:
        found = [detail(film, size) for film in options.films]
        share = statistics.median((ROUNDING / one) ** 2 for one in found)
        print(
            f"{size} pixels: the finest detail of {len(found)} films has {min(found):.2f} to {max(found):.2f} greys;"
            f" of its variance rounding is {share:.0%} (median)"
        )


if __name__ == "__main__":
    main()
