import pickle
from typing import Any

import albumentations
import numpy as np
import pytest

from lit_dist.datamodules import Albumentations
from lit_dist.utils.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
SEEDS = np.arange(40, dtype=np.uint64)


def test_it_does_what_the_library_does() -> None:
    always = Albumentations([{"HorizontalFlip": {"p": 1.0}}, {"Rotate": {"limit": (90, 90), "p": 1.0}}])
    turn = albumentations.Rotate(limit=(90, 90), p=1.0)
    for image, found in zip(IMAGES, always(IMAGES, SEEDS), strict=True):
        assert (found == turn(image=np.ascontiguousarray(image[:, ::-1]))["image"]).all()


def test_transforms_draw_apart() -> None:
    flipped = Albumentations(["HorizontalFlip", "VerticalFlip"])(IMAGES, SEEDS)
    views = [(image, image[:, ::-1], image[::-1], image[::-1, ::-1]) for image in IMAGES]
    seen = {
        next(n for n, view in enumerate(four) if (view == found).all())
        for four, found in zip(views, flipped, strict=True)
    }
    assert seen == {0, 1, 2, 3}


def test_it_can_be_sent_to_a_worker_after_its_first_use() -> None:
    augment = Albumentations(["HorizontalFlip"])
    first = augment(IMAGES, SEEDS)
    assert (pickle.loads(pickle.dumps(augment))(IMAGES, SEEDS) == first).all()


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (["Nonsense"], "albumentations has no transform 'Nonsense'"),
        (["Compose"], "albumentations has no transform 'Compose'"),
        ([{"HorizontalFlip": {"p": 7}}], "HorizontalFlip does not take"),
        ([{"HorizontalFlip": {}, "VerticalFlip": {}}], "is not one name with its settings"),
        ([{"Resize": {"height": 8, "width": 8}}], "take transforms that keep both"),
    ],
)
def test_what_cannot_be_done_is_refused(transforms: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Albumentations(transforms)(IMAGES, SEEDS)


def test_a_function_cannot_be_named() -> None:
    with pytest.raises(InputError, match="Lambda takes functions, which settings cannot name"):
        Albumentations([{"Lambda": {"image": "os.system"}}])(IMAGES, SEEDS)
