import numpy as np
import pytest

from lit_dist.datamodules import Albumentations, Augmentation, Augmenter
from lit_dist.utils.errors import InputError
from lit_dist.utils.threads import in_threads

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
BATCH = np.random.default_rng(1).integers(0, 256, (6, 24, 40, 3), dtype=np.uint8)
SEEDS = np.array([5, 2**61 + 5, 0, 9, 10, 11], np.uint64)


def one(augment: Augmenter, image: np.ndarray, seed: int) -> np.ndarray:
    return augment(image[None].copy(), np.array([seed], np.uint64))[0]


@pytest.mark.parametrize(
    "augment",
    [
        Augmentation(brightness=0.2, shift=0.1),
        Augmentation(rotation=0),
        Augmentation(rotation=0, shift=0.3),
        Augmentation(crop=0.2, stretch=4 / 3),
        Albumentations(["HorizontalFlip", {"Rotate": {"limit": 40}}]),
    ],
)
def test_an_image_does_not_depend_on_its_batch(augment: Augmenter) -> None:
    together = augment(BATCH.copy(), SEEDS)
    assert (together.shape, together.dtype) == (BATCH.shape, np.uint8)
    for image, seed, found in zip(BATCH, SEEDS, together, strict=True):
        assert (one(augment, image, int(seed)) == found).all()


PLAIN = {"rotation": 0, "horizontal_flip": False, "vertical_flip": False}


@pytest.mark.parametrize("settings", [{"brightness": 0.2}, {**PLAIN, "shift": 0.2}])
def test_chance_comes_from_the_seed_alone(settings: dict[str, float]) -> None:
    first = [one(Augmentation(**settings), IMAGE, seed) for seed in (2**61 + 5, *range(50))]
    np.random.seed(4)
    one(Augmentation(**settings), IMAGE, 9)
    assert all((one(Augmentation(**settings), IMAGE, seed) == first[seed + 1]).all() for seed in range(50))
    assert (one(Augmentation(**settings), IMAGE, 2**61 + 5) == first[0]).all()
    assert len({image.tobytes() for image in first}) > 40


def test_flips_alone_give_the_four_mirror_images() -> None:
    augment = Augmentation(rotation=0)
    expected = {view.tobytes() for view in (IMAGE, IMAGE[::-1], IMAGE[:, ::-1], IMAGE[::-1, ::-1])}
    assert {one(augment, IMAGE, seed).tobytes() for seed in range(60)} == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"rotation": 0, "shift": 0.1}])
def test_large_images_are_resampled_on_several_threads_and_are_those_of_one(
    settings: dict[str, float], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 256, 256, channels), np.uint8)
    seeds = np.arange(20, dtype=np.uint64)
    augment = Augmentation(horizontal_flip=False, vertical_flip=False, fill=7, **settings)
    one_by_one = np.concatenate([augment(images[n : n + 1], seeds[n : n + 1]) for n in range(20)])
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    threads: list[int] = []
    monkeypatch.setattr(
        "lit_dist.datamodules.images.augmentation.in_threads",
        lambda function, items: threads.append(len(in_threads(function, items))),
    )
    assert (augment(images, seeds) == one_by_one).all()
    assert threads == [20]


def test_rotations_reach_every_angle_and_fill_corners() -> None:
    arrow = np.zeros((65, 65, 3), np.uint8)
    arrow[30:35, 32:] = 255
    augment = Augmentation(horizontal_flip=False, vertical_flip=False, fill=7)
    angles = []
    for seed in range(300):
        turned = one(augment, arrow, seed)
        y, x = np.nonzero(turned[..., 0] > 128)
        angles.append(np.degrees(np.arctan2(y.mean() - 32, x.mean() - 32)))
    assert (np.histogram(angles, bins=12, range=(-180, 180))[0] > 5).all()
    assert (one(augment, np.zeros((64, 64, 3), np.uint8), 3) == 7).any()


def test_nothing_is_changed_where_nothing_is_asked_for() -> None:
    assert (one(Augmentation(**PLAIN), IMAGE, 1) == IMAGE).all()


REFUSED = {"rotation": (181, -1), "brightness": (1,), "fill": (256,)}
REFUSED |= {"shift": (1.1, -0.1), "crop": (0, 1.1), "stretch": (0.9, 5)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in REFUSED for value in REFUSED[name]])
def test_refused_settings(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        Augmentation(**{name: value})


def shifted(share: float, seed: int, **settings: float) -> np.ndarray:
    """Where a white square of 5 by 5 pixels in the middle of an image of 101 by 101 comes to, (x, y)."""
    image = np.zeros((101, 101, 3), np.uint8)
    image[48:53, 48:53] = 255
    augment = Augmentation(**PLAIN, shift=share, **settings)
    weights = one(augment, image, seed)[..., 0].astype(float)
    rows, columns = np.indices(weights.shape)
    return np.array([(weights * axis).sum() / weights.sum() - 50 for axis in (columns, rows)])


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_shift_is_at_most_its_share_of_the_side_and_goes_everywhere(share: float) -> None:
    moves = np.array([shifted(share, seed) for seed in range(200)])
    most = share * 101 + 0.5  # half a pixel for rounding
    assert np.abs(moves).max() <= most
    assert (moves.max(axis=0) > 0.7 * most).all()
    assert (moves.min(axis=0) < -0.7 * most).all()
    assert abs(np.corrcoef(moves.T)[0, 1]) < 0.3, "both axes are drawn apart"


def test_a_shift_fills_what_it_leaves_empty() -> None:
    augment = Augmentation(**PLAIN, shift=0.5, fill=9)
    found = np.stack([one(augment, np.full((32, 32, 3), 200, np.uint8), seed) for seed in range(10)])
    assert set(np.unique(found)) == {9, 200}


def cut(seed: int, **settings: float) -> np.ndarray:
    """Of what part of an image of 101 by 81 pixels the result is made: its width, height, left and top, as shares."""
    rows, columns = np.indices((81, 101), np.uint8)
    image = np.stack([columns, rows, rows], axis=-1) * 2
    found = one(Augmentation(**PLAIN, **settings), image, seed) / 2.0
    share = (found[40, 100, 0] - found[40, 0, 0]) / 100, (found[80, 50, 1] - found[0, 50, 1]) / 80
    return np.array([*share, found[40, 0, 0] / 100, found[0, 50, 1] / 80])


def test_a_part_of_each_area_from_the_least_on_is_cut_out_anywhere_within_the_image() -> None:
    cuts = np.array([cut(seed, crop=0.25) for seed in range(300)])
    areas = cuts[:, 0] * cuts[:, 1]
    assert (np.histogram(areas, bins=5, range=(0.24, 1.01))[0] > 30).all()
    assert areas.min() > 0.24
    assert np.allclose(cuts[:, 0], cuts[:, 1], atol=0.02), "an image keeps its shape"
    small = cuts[areas < 0.6]
    for left, share in ((small[:, 2], small[:, 0]), (small[:, 3], small[:, 1])):
        place = left / (1 - share)
        assert (np.histogram(place, bins=4, range=(-0.03, 1.03))[0] > 10).all()
        assert abs(place - 0.5).max() < 0.53


def test_a_part_is_stretched_up_to_the_ratio_where_its_area_leaves_room() -> None:
    cuts = np.array([cut(seed, crop=0.1, stretch=2) for seed in range(300)])
    areas, ratios = cuts[:, 0] * cuts[:, 1], np.log2(cuts[:, 0] / cuts[:, 1])
    assert (np.histogram(ratios, bins=4, range=(-1.05, 1.05))[0] > 30).all()
    assert np.abs(ratios).max() < 1.05
    assert (np.histogram(areas, bins=5, range=(0.09, 1.01))[0] > 30).all()
    assert areas.min() > 0.09
    assert cuts[:, :2].max() < 1.01
    assert cuts[:, 2:].min() > -0.02
    assert np.allclose([cut(seed, stretch=2) for seed in range(20)], (1, 1, 0, 0), atol=0.02)


def test_what_is_cut_out_leaves_nothing_empty() -> None:
    augment = Augmentation(rotation=0, crop=0.1, stretch=2, fill=9)
    found = np.stack([one(augment, np.full((32, 32, 3), 200, np.uint8), seed) for seed in range(300)])
    assert (found == 200).all()
