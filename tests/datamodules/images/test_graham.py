import cv2
import numpy as np
import pytest

from lit_dist.datamodules.images.graham import GREY, graham


def disc(width: int, height: int, radius: int, colour: tuple[int, int, int] = (180, 90, 40)) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    return cv2.circle(image, (width // 2, height // 2), radius, colour, -1)


def test_a_plain_retina_becomes_grey() -> None:
    """Without details nothing differs from the local average, but for the rim's last tenth, which is cut."""
    result = graham(disc(800, 600, 280), radius=300, size=256).astype(int)
    inner = np.hypot(*(np.indices((256, 256)) - 127.5)) < 0.7 * 128
    assert np.abs(result[inner] - GREY).max() <= 1
    assert (result[~(np.hypot(*(np.indices((256, 256)) - 127.5)) < 0.92 * 128)] == GREY).all()


@pytest.mark.parametrize(("width", "height", "radius"), [(1600, 1200, 560), (400, 300, 140), (900, 500, 400)])
def test_details_come_out_alike_at_every_size_and_brightness(width: int, height: int, radius: int) -> None:
    def spot(colour: tuple[int, int, int], darker: int) -> np.ndarray:
        image = disc(width, height, radius, colour)
        centre = (width // 2 + radius // 4, height // 2)
        return cv2.circle(image, centre, radius // 20, tuple(c - darker for c in colour), -1)

    results = [graham(spot(colour, 20), 300, 256).astype(int) for colour in ((180, 90, 40), (220, 130, 80))]
    place = (128, 128 + 32 * 9 // 10)
    for result in results:
        assert result[128, 160].max() < GREY - 20, f"the spot is dark at {place}"
    assert np.abs(results[0] - results[1])[40:216, 40:216].max() <= 3


def test_a_narrow_photograph_is_padded_with_grey() -> None:
    result = graham(disc(600, 300, 290), radius=100, size=64)
    assert result.shape == (64, 64, 3)
    assert (result[:4] == GREY).all()


@pytest.mark.parametrize("image", [np.zeros((50, 50, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)])
def test_what_shows_no_retina_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shows no retina"):
        graham(image)
