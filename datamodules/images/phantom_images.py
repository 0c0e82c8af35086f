"""Procedurally drawn phantoms of retinal fundus photographs.

These are phantoms, not a model of disease: shapes that merely resemble a retina and the lesions by which
diabetic retinopathy is graded, tuned so that a small network finds them learnable but not trivial. They let
the project run without a download; nothing measured on them says anything about patients.

Points are complex numbers, in units of the radius of the round field of view, whose centre is 0.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Points = NDArray[np.complexfloating]
Span = tuple[float, float]

# The least and the largest number of each lesion, by grade.
_ANEURYSMS = ((0, 0), (2, 5), (6, 12), (14, 24), (8, 20))
_HAEMORRHAGES = ((0, 0), (0, 0), (2, 7), (9, 16), (4, 12))
_EXUDATES = ((0, 0), (0, 0), (0, 14), (5, 24), (0, 20))
# What is painted, in the order in which it covers the retina, and the colour of each.
_DRUSEN, _LIPID, _NERVE, _BLOOD, _DUST = range(5)
_PERCENT = [[84, 54, 25], [100, 85, 43], [100, 82, 54], [38, 10, 7], [29, 20, 15]]
_COLOURS = np.array(_PERCENT, np.float32) / np.float32(100)
_DISC = 0.62 + 0j  # the centre of the optic disc
_SUBPIXEL_BITS = 4
_HALF_CIRCLE = np.exp(1j * np.linspace(0, np.pi, 14))


@dataclass(frozen=True)
class CameraLook:
    """The look that one site's camera gives its photographs.

    `tint` is the gain of red, green and blue, a `gamma` above 1 darkens, `vignette` is the share of the light
    lost at the rim, `blur` a sigma as a fraction of the image size, `noise` a standard deviation with white
    at 1, `zoom` the magnification, and `dust` the largest number of specks on the optics.
    """

    tint: tuple[float, float, float]
    gamma: float
    vignette: float
    blur: float
    noise: float
    zoom: float
    dust: int

    @classmethod
    def of_site(cls, number: int, seed: int = 0) -> "CameraLook":
        """Return the camera of the site with this number; another seed gives another set of cameras."""
        # Irrational strides spread successive sites over every range, where independent draws could coincide.
        strides = np.sqrt([2.0, 3.0, 7.0, 11.0, 13.0, 29.0, 19.0, 31.0, 23.0])
        place = (np.random.default_rng(seed).random(9) + number * strides) % 1.0
        low = np.array([0.75, 0.72, 0.40, 0.70, 0.10, 0.002, 0.005, 1.0, -4.0])
        high = np.array([1.25, 1.25, 1.80, 1.60, 0.60, 0.012, 0.045, 1.4, 16.0])
        red, green, blue, gamma, vignette, blur, noise, zoom, dust = (low + place * (high - low)).tolist()
        return cls((red, green, blue), gamma, vignette, blur, noise, zoom, max(0, round(dust)))


class _Canvas:
    """Supersampled layers of paint, one for each thing painted, and the generator that scatters it."""

    def __init__(self, rng: np.random.Generator, size: int, zoom: float) -> None:
        self.rng, self.size, self.zoom = rng, size, zoom
        self.side = size * max(2, 128 // size)
        self.radius = 0.48 * self.side * zoom
        self.layers = np.zeros((len(_COLOURS), self.side, self.side), np.uint8)

    def places(self, least: int, most: int, reach: float = 0.9) -> Points:
        """Choose points in all quadrants of the visible retina, off the optic disc."""
        count = int(self.rng.integers(least, most + 1))
        turns = self.rng.random() + (np.arange(count) + self.rng.random(count)) / max(count, 1)
        points = reach / self.zoom * np.sqrt(self.rng.random(count)) * np.exp(2j * np.pi * turns)
        return np.asarray(np.where(abs(points - _DISC) < 0.25, -points, points))

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        plane = points.view(np.float64).reshape(*points.shape, 2)
        return np.asarray((self.radius * plane + (self.side - 1) / 2) * 2**_SUBPIXEL_BITS, np.int32)

    def spots(self, tissue: int, centres: Points, radii: Span, paint: Span, arc: int = 2) -> None:
        """Paint roundish spots, their paint drawn from a range; an arc of 1 halves them."""
        colour = (self.rng.uniform(*paint),)
        lengths = self.rng.uniform(*radii, (len(centres), 1)) * self.rng.normal(1, 0.07, (len(centres), 14))
        for outline in self._pixels(centres[:, None] + lengths * _HALF_CIRCLE**arc):
            cv2.fillPoly(self.layers[tissue], [outline], colour, cv2.LINE_AA, _SUBPIXEL_BITS)

    def vessels(self, starts: Points, headings: Floats, bends: Floats, shape: Span, paint: float) -> Points:
        """Grow a tapering vessel of a (length, width) from every start, and return the paths."""
        length, width = shape
        turns = bends[:, None] / 13 + self.rng.normal(0, 0.1, (len(starts), 13))
        strides = length / 13 * self.rng.uniform(0.7, 1.2, (len(starts), 1))
        steps = strides * np.exp(1j * (headings[:, None] + turns.cumsum(axis=1)))
        paths: Points = starts[:, None] + steps.cumsum(axis=1)
        pixels, layer = self._pixels(paths), self.layers[_BLOOD]
        for first, taper in ((8, 0.6), (4, 0.8), (0, 1.0)):
            pieces, thickness = list(pixels[:, first : first + 5]), max(1, round(self.radius * taper * width))
            cv2.polylines(layer, pieces, False, (paint,), thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        return paths

    def lay_over(self, retina: NDArray[np.float32]) -> None:
        for layer, colour in zip(self.layers, _COLOURS, strict=True):
            cover = cv2.resize(layer, (self.size, self.size), interpolation=cv2.INTER_AREA)
            retina += cover[..., None] * np.float32(1 / 255) * (colour - retina)


def _draw_tree(rng: np.random.Generator, canvas: _Canvas, width: float, paint: float) -> None:
    """Draw vessels that leave the disc and arch round the macula, with two orders of branches."""
    starts: Points = _DISC + 0.04 * np.exp(2j * np.pi * rng.random(4))
    headings: Floats = np.radians([-100, 100, -55, 55]) + rng.normal(0, 0.2, 4)
    bends: Floats = np.radians([-75, 75, 25, -25]) + rng.normal(0, 0.2, 4)
    for order, branches in enumerate((5, 2, 0)):
        paths = canvas.vessels(starts, headings, bends, (1.7 * 0.42**order, width * 0.6**order), paint)
        parents = np.arange(len(paths)).repeat(branches)
        points, sides = rng.integers(2, 12, len(parents)), rng.choice([-1.0, 1.0], len(parents))
        starts = paths[parents, points]
        headings = np.angle(starts - paths[parents, points - 1]) + sides * rng.uniform(0.4, 1.0, len(parents))
        bends = -sides * rng.uniform(0.0, 0.8, len(parents))


def _draw_healthy(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Draw disc and vessels, and the harmless pale and dark spots that keep grading from being trivial."""
    canvas.spots(_NERVE, np.array([_DISC]), (0.14, 0.17), (160, 190))
    canvas.spots(_NERVE, np.array([_DISC]), (0.05, 0.09), (220, 250))
    canvas.spots(_DRUSEN, canvas.places(0, 20), (0.012, 0.045), (50, 190))
    canvas.spots(_BLOOD, canvas.places(0, 6), (0.012, 0.045), (25, 80))
    _draw_tree(rng, canvas, 0.028, 130)
    _draw_tree(rng, canvas, 0.040, 185)


def _draw_lesions(rng: np.random.Generator, canvas: _Canvas, grade: int) -> None:
    canvas.spots(_BLOOD, canvas.places(*_ANEURYSMS[grade]), (0.010, 0.018), (165, 200))
    canvas.spots(_BLOOD, canvas.places(*_HAEMORRHAGES[grade]), (0.024, 0.052), (165, 195))
    cluster = canvas.places(*_EXUDATES[grade], reach=0.25)
    centres = np.resize(canvas.places(2, 2, reach=0.6), len(cluster))
    canvas.spots(_LIPID, centres + cluster, (0.012, 0.027), (175, 210))
    if grade == 4 and rng.random() < 0.5:
        canvas.spots(_BLOOD, canvas.places(1, 1, reach=0.5), (0.15, 0.32), (180, 210), arc=1)
    elif grade == 4:
        roots = canvas.places(2, 2, reach=0.7).repeat(6)
        canvas.vessels(roots, rng.uniform(0, 2 * np.pi, 12), rng.normal(0, 5, 12), (0.3, 0.012), 170)


def _squared_radius(size: int, x: float = 0.0, y: float = 0.0) -> NDArray[np.float32]:
    axis = np.linspace(1 / size - 1, 1 - 1 / size, size, dtype=np.float32)
    return np.asarray(np.add.outer((axis - y) ** 2, (axis - x) ** 2), np.float32)[..., None]


def _bare_retina(rng: np.random.Generator, size: int, zoom: float) -> NDArray[np.float32]:
    """Return the mottled background with its macula, as (size, size, 3) with white at 1."""
    pigment = np.array([0.74, 0.37, 0.17]) * rng.normal(1, [0.06, 0.10, 0.15])
    shade = 1 - rng.uniform(0.2, 0.45) * np.exp(_squared_radius(size) / (-0.034 * zoom**2))
    for cells, amplitude in ((5, 0.07), (20, 0.05)):
        mottle = rng.normal(0, amplitude, (cells, cells))
        shade = shade + cv2.resize(mottle, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.asarray(shade * pigment, np.float32)


def _photograph(rng: np.random.Generator, retina: NDArray[np.float32], look: CameraLook) -> NDArray[np.uint8]:
    """Take the picture: the light, haze, tone, optics and noise of one camera on one occasion."""
    size = len(retina)
    light = rng.normal(1, 0.08) - look.vignette * _squared_radius(size, *rng.normal(0, 0.18, 2))
    haze = rng.uniform(0, 0.18)
    image = (1 - haze) * retina * np.clip(light, 0.1, None) + haze * np.array([0.60, 0.42, 0.28], np.float32)
    image = np.clip(image, 0, None) ** look.gamma * np.array(look.tint, np.float32)
    image = cv2.GaussianBlur(image, (0, 0), look.blur * size * rng.uniform(0.6, 1.5))
    image = image + look.noise * rng.standard_normal(image.shape, np.float32)
    inside = np.clip((0.97 - np.sqrt(_squared_radius(size))) * (size / 2), 0, 1)
    return np.asarray(255 * np.clip(image, 0, 1) * inside + 0.5, np.uint8)


def draw_phantom(grade: int, look: CameraLook, seed: int, size: int = 64) -> NDArray[np.uint8]:
    """Draw one phantom photograph: RGB, and black outside the round field of view.

    Args:
        grade: Grade of diabetic retinopathy, from 0 (none) to 4 (proliferative).
        look: The camera that takes the photograph.
        seed: Picks the eye, its lesions and the occasion; equal arguments give equal images.
        size: Height and width of the image.

    Raises:
        ValueError: If there is no such grade.
    """
    if not 0 <= grade <= 4:
        raise ValueError(f"The grade of a phantom is a number from 0 to 4, not {grade}.")
    rng = np.random.default_rng(seed)
    is_left = rng.random() < 0.5
    retina, canvas = _bare_retina(rng, size, look.zoom), _Canvas(rng, size, look.zoom)
    _draw_healthy(rng, canvas)
    _draw_lesions(rng, canvas, grade)
    canvas.spots(_DUST, canvas.places(look.dust // 2, look.dust), (0.012, 0.035), (110, 190))
    canvas.lay_over(retina)
    return _photograph(rng, retina[:, ::-1] if is_left else retina, look)
