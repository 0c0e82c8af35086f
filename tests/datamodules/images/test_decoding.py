import io

import numpy as np
import pytest
from PIL import Image

from lit_dist.datamodules.images.decoding import decode


def content(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_greys_of_16_bits_are_scaled_and_not_cut_off(kind: str) -> None:
    greys = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    decoded = decode(content(greys, kind))
    assert (decoded == (greys // 256)[..., None]).all()
    assert decoded.dtype == np.uint8


def test_transparent_and_indexed_images_become_rgb() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    covered = np.concatenate([colours, np.full((8, 8, 1), 9, np.uint8)], axis=-1)
    assert (decode(content(covered, "PNG")) == colours).all()
    indexed = Image.fromarray(colours).quantize(64)
    file = io.BytesIO()
    indexed.save(file, "PNG")
    assert (decode(file.getvalue()) == np.asarray(indexed.convert("RGB"))).all()
