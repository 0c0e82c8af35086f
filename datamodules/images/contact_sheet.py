"""Contact sheets: what the network will see of a site's images, for a person to look at."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.images.site_images import SiteImages
from lit_dist.datamodules.sampler import Draw
from lit_dist.tasks.classification import Classification
from lit_dist.visits.seeding import sample_seeds

COLUMNS = 8
MOST_CLASSES = 12
_SIDE = 144  # of an image on the sheet, in pixels
_GAP = 6
_LINE = 18
_PAPER, _INK = (250, 250, 250), (30, 30, 30)

Tile = tuple[NDArray[np.uint8], str]


def draw_sheet(data: ImageDataModule, site: str, images: int = COLUMNS) -> Image.Image:
    """Draw images of each class, spread evenly over the site's training images, and some of them augmented.

    Where something else than a class is predicted, all images count as of one class.

    Args:
        data: A datamodule that is set up.
        site: The site.
        images: How many images of a class to show, if there are as many.

    Returns:
        RGB. Of more than ``MOST_CLASSES`` classes, the first ones are shown.
    """
    dataset = data.dataset([site], "train")
    names: Sequence[str] = data.class_names if isinstance(data.learning_task, Classification) else ()
    rows = [np.flatnonzero(dataset.labels == label) for label in range(len(names))] or [np.arange(len(dataset))]
    sections = [
        section
        for name, of_class in list(zip(names or ["all"], rows, strict=True))[:MOST_CLASSES]
        for section in _sections(dataset, of_class, name, images)
    ]
    left_out = len(names) - MOST_CLASSES
    more = f"; {left_out} more classes are not shown" if left_out > 0 else ""
    size = "x".join(map(str, dataset.pixels.shape[1:3]))
    return _drawn(f"{site}; training images: {len(dataset)}, of {size} pixels{more}", sections)


def _sections(dataset: SiteImages, rows: NDArray[np.int64], name: str, images: int) -> list[tuple[str, list[Tile]]]:
    shown = rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).round().astype(int)]
    patients = dataset.table["patient"].to_numpy()[rows]
    title = f"{name}; images: {len(rows)}, patients: {len(set(patients))}"
    sections = [(title, _tiles(dataset, shown.tolist()))]
    if dataset.augmentation is not None and len(shown):
        some = shown[:COLUMNS]
        draws = list(map(Draw, some.tolist(), sample_seeds(0, some).tolist()))
        sections.append((f"{name}, as augmented in training", _tiles(dataset, draws)))
    return sections


def _tiles(dataset: SiteImages, keys: Sequence[int] | Sequence[Draw]) -> list[Tile]:
    names = dataset.table["image"].to_numpy()
    pictures = [dataset[key][0].permute(1, 2, 0).numpy() for key in keys]
    rows = [key.row if isinstance(key, Draw) else key for key in keys]
    return [(picture, str(names[row])) for picture, row in zip(pictures, rows, strict=True)]


def _drawn(title: str, sections: Sequence[tuple[str, list[Tile]]]) -> Image.Image:
    rows = [-(-len(tiles) // COLUMNS) for _, tiles in sections]
    tile_height = _SIDE + _LINE
    height = 2 * _LINE + sum(_LINE + _GAP + count * (tile_height + _GAP) for count in rows) + _GAP
    sheet = Image.new("RGB", (COLUMNS * (_SIDE + _GAP) + _GAP, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), _one_line(title), _INK, ImageFont.load_default(15))
    y = 2 * _LINE
    for (heading, tiles), count in zip(sections, rows, strict=True):
        draw.text((_GAP, y), _one_line(heading), _INK, ImageFont.load_default(13))
        y += _LINE + _GAP
        for number, tile in enumerate(tiles):
            row, column = divmod(number, COLUMNS)
            _paste(sheet, draw, tile, (_GAP + column * (_SIDE + _GAP), y + row * (tile_height + _GAP)))
        y += count * (tile_height + _GAP)
    return sheet


def _one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, place: tuple[int, int]) -> None:
    pixels, name = tile[0], _one_line(tile[1])
    font = ImageFont.load_default(10)
    picture = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    sheet.paste(picture, place)
    while len(name) > 1 and draw.textlength(name, font) > _SIDE:
        name = "…" + name.lstrip("…")[1:]  # the end of a path tells more than its beginning
    draw.text((place[0], place[1] + _SIDE + 2), name, _INK, font)
