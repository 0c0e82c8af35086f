import cv2
import numpy as np
import pytest

from fake_mammograms import draw_film
from lit_dist.datamodules.mammography.breast import breast_mask, chest_is_right, prepare_breast, prepare_crop
from real_data import real_folder


@pytest.mark.parametrize("right", [False, True])
def test_both_breasts_come_out_with_the_chest_wall_at_the_left(right: bool) -> None:
    film = draw_film(1, right)
    assert chest_is_right(breast_mask(film)) == right
    assert (prepare_breast(film, 64) == prepare_breast(draw_film(1), 64)).all()


def test_the_breast_fills_the_height_and_the_label_is_gone() -> None:
    result = prepare_breast(draw_film(2, size=(400, 300)), 128)
    assert result.shape == (128, 128, 3)
    assert (result[:, :, 0] == result[:, :, 2]).all()
    assert result[64, 0].min() > 0
    assert result[1:-1].max(axis=(1, 2)).min() > 0
    assert result[:, 100:].max() == 0
    assert result[:20, 90:].max() == 0, "where the label was"


def test_a_label_that_thinly_touches_the_breast_is_cut_off() -> None:
    film = draw_film(3, size=(400, 300), label=False)
    expected = breast_mask(film).sum()
    film[20:60, 220:260] = 60_000
    film[38:42, 60:220] = 60_000  # a scratch from the label to the breast
    assert breast_mask(film)[20:60, 220:260].sum() == 0
    assert breast_mask(film).sum() < 1.05 * expected


def test_shapes_keep_their_proportions() -> None:
    def extent(result: np.ndarray) -> float:
        inside = result[:, :, 0] > 0
        return float(inside.any(axis=0).sum() / inside.any(axis=1).sum())

    wide, tall = draw_film(4, size=(300, 400)), draw_film(4, size=(600, 300))
    assert extent(prepare_breast(wide, 200)) == pytest.approx(240 / 252, abs=0.03)
    assert extent(prepare_breast(tall, 200)) == pytest.approx(180 / 504, abs=0.03)


def test_the_greys_of_the_breast_are_spread_and_brightness_does_not_matter() -> None:
    film = draw_film(5, size=(400, 300))
    result = prepare_breast(film, 128)
    assert result.max() == 255
    assert result[20:100, 5:50, 0].std() > 20
    darker = prepare_breast((film // 4).astype(np.uint16), 128)
    assert np.abs(darker.astype(int) - result).mean() < 1


def test_sixteen_bits_are_kept_until_the_greys_are_spread() -> None:
    """Two greys that are one in eight bits are told apart."""
    crop = np.full((200, 200), 30_000, np.uint16)
    crop[80:120, 30:60] = 30_040
    result = prepare_crop(crop, 100)
    assert result[50, 22, 0] - int(result[10, 22, 0]) > 200


def test_a_box_shows_a_place_from_the_same_side() -> None:
    film = draw_film(6, size=(400, 300), label=False)
    box = (0.1, 0.4, 0.3, 0.55)
    mirrored = (0.7, 0.4, 0.9, 0.55)
    left, right = prepare_breast(film, 64, box), prepare_breast(np.ascontiguousarray(film[:, ::-1]), 64, mirrored)
    assert (left == right).all()
    over = prepare_breast(film, 64, (-0.1, 0.4, 0.1, 0.55))
    assert over[:, :30].max() == 0, "what lies over the film's edge is black"


def test_crops_are_mirrored_as_told() -> None:
    crop = np.arange(600, dtype=np.uint16).reshape(20, 30) + 1
    plain, mirrored = prepare_crop(crop, 30), prepare_crop(crop, 30, mirrored=True)
    assert (plain[5:25] == mirrored[5:25, ::-1]).all()


@pytest.mark.parametrize(
    "film", [np.zeros((50, 50)), np.full((1, 1), 7), np.full((60, 40), 65_535), np.pad([[9]], 100), np.ones((1, 4000))]
)
def test_what_shows_no_breast_is_refused(film: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"it shows (nothing|no breast)"):
        prepare_breast(film.astype(np.uint16))


@pytest.mark.slow
def test_real_films_of_mini_mias_are_seen_from_the_side_that_their_list_says() -> None:
    """Two films show a breast as wide as the film, so that nothing tells where the chest is."""
    wrong = []
    for path in sorted((real_folder("mammo_minimias") / "images512").glob("*.png")):
        film = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 257
        if chest_is_right(breast_mask(film)) != (int(path.stem[3:]) % 2 == 1):
            wrong.append(path.stem)
    assert wrong == ["mdb151", "mdb152"]


@pytest.mark.slow
def test_real_films_of_ddsm_are_outlined_as_their_published_masks_are() -> None:
    folder = real_folder("mammo_ddsm66")
    overlaps = []
    for path in sorted((folder / "images").glob("*.png")):
        film = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 257
        outline = cv2.imread(str(folder / "masks" / f"{path.stem}_LI.png"), cv2.IMREAD_GRAYSCALE) > 64
        mask = breast_mask(film)
        overlaps.append((mask & outline).sum() / (mask | outline).sum())
    assert len(overlaps) == 66
    assert np.mean(overlaps) > 0.94
    assert min(overlaps) > 0.8
