"""Film: a file with a mammogram, or a part of one, decoded with all its greys."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lit_dist.datamodules.images.decoding import FORMATS, MOST_PIXELS, decoded, wide_greys
from lit_dist.datamodules.images.image_index import ImageFile
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.datamodules.mammography.breast import Box
from lit_dist.datamodules.mammography.dicom import is_dicom, read_dicom, read_header
from lit_dist.utils.atomic_write import open_file

SUFFIXES = (".dcm", ".dicom", ".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg")
WITHOUT_FINDING = "without finding"
"""In ``attrs`` of a table of findings: how many films have none that could be shown."""


@dataclass(unsafe_hash=True)
class Film(ImageFile):
    """What is prepared: a file, and what of it is shown. Two parts of one film are two entries in ``PixelCache``.

    Attributes:
        path: The file.
        box: The part of it to show, as shares of its width and height; None for all.
        is_crop: Whether the file itself is a part of a film.
        mirrored: Whether a crop is to be mirrored; a film's orientation is seen.
    """

    box: Box | None = None
    is_crop: bool = False
    mirrored: bool = False

    def __str__(self) -> str:
        return f"{self.path} {self._settings()}" if self.box or self.is_crop else self.path

    def read_bytes(self) -> bytes:
        """A line that says which part is shown, and the file's content."""
        return self._settings().encode() + b"\n" + super().read_bytes()

    def _settings(self) -> str:
        return json.dumps({"box": self.box, "is_crop": self.is_crop, "mirrored": self.mirrored}, sort_keys=True)


def find_films(folder: Path) -> list[Path]:
    """All image files in a folder and those below, in the order of their names; links to folders are not followed.

    Raises:
        InputError: If the folder is missing or holds none, or a file is a link that leads out of it.
    """
    return sorted(folder / name for name in NamedFiles.below(folder, SUFFIXES).files)


def split_content(content: bytes) -> tuple[Film, bytes]:
    """What ``Film.read_bytes`` gave, as a film without its path, and the file's content."""
    line, _, rest = content.partition(b"\n")
    settings = json.loads(line)
    box = settings.pop("box")
    return Film("", tuple(box) if box else None, **settings), rest


def decode_film(content: bytes) -> NDArray[np.uint16]:
    """Decode a file whole: DICOM, or what Pillow reads, such as PGM and 16-bit PNG.

    Args:
        content: The file's bytes.

    Returns:
        Greyscale, uint16, (height, width), bright where tissue is dense.

    Raises:
        ValueError: See ``decoded`` and ``read_dicom``.
    """
    return read_dicom(content, MOST_PIXELS) if is_dicom(content) else decoded(content, _greys, "DICOM")


def size_of(path: Path) -> tuple[int, int]:
    """The height and width in an image file's header, of DICOM too; ValueError if it has none."""
    with open_file(path) as file:
        if is_dicom(file.read(132)):
            header = read_header(path)
            return header.rows, header.columns
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception as error:  # Pillow raises whatever damaged bytes lead it to
        raise ValueError(f"{path} cannot be read as an image: {error}") from None


def _greys(image: Image.Image) -> NDArray[np.uint16]:
    """The greys over all of 16 bits, from files of 8, 16 or 32 bits a pixel, or of colours."""
    if image.mode.startswith("I"):
        return wide_greys(image)
    if image.mode == "F":
        raise ValueError("its greys are fractions; save it with 8 or 16 bits")
    return np.asarray(image.convert("L")).astype(np.uint16) * 257
