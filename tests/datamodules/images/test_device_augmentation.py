from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lit_dist import ImageClassifier
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.datamodules import Augmentation, DeviceAugmentation, PhantomDataModule
from lit_dist.datamodules.images.contact_sheet import draw_sheet
from small import trainer

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
SEEDS = np.arange(20, dtype=np.uint64) * np.uint64(2**58 + 1)


def phantoms(augmentation: Augmentation, **settings: Any) -> PhantomDataModule:
    data = PhantomDataModule(sites=2, patients=40, size=32, augmentation=augmentation, **settings)
    data.setup("prepare")
    return data


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rotation": 0},
        {"rotation": 0, "shift": 0.3, "fill": 7},
        {"rotation": 20, "shift": 0.1, "brightness": 0.3, "fill": 128},
        {"rotation": 0, "vertical_flip": False, "crop": 0.08, "stretch": 4 / 3},
        {"rotation": 0, "stretch": 4 / 3},
        {"crop": 0.5, "stretch": 2, "shift": 0.2, "fill": 9},
    ],
)
def test_an_image_becomes_what_it_becomes_without_a_device(settings: dict[str, Any], channels: int) -> None:
    images = np.ascontiguousarray(IMAGES[..., :channels])
    augment = DeviceAugmentation(**settings)
    found = augment.changed(torch.from_numpy(images).permute(0, 3, 1, 2), augment.changes(SEEDS, 48, 64))
    expected = Augmentation(**settings)(images.copy(), SEEDS)
    difference = np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - expected)
    if int(cv2.__version__.partition(".")[0]) < 5:
        assert difference.mean() < 1.5
        assert difference.max() <= 12
    else:
        assert (difference != 0).mean() < 0.01
        assert difference.max() <= 1 + ("brightness" in settings)


def test_a_batch_is_augmented_on_its_way_to_the_network_and_only_in_training() -> None:
    augment = DeviceAugmentation()
    data = phantoms(augment)
    images, labels, changes = next(iter(data._train_loader(["site-1"])))
    assert images.dtype == torch.uint8
    inputs, same = data.on_after_batch_transfer([images, labels, changes], 0)
    assert torch.equal(inputs, data.normalise(augment.changed(images, changes)))
    assert not torch.equal(inputs, data.normalise(images))
    assert torch.equal(same, labels)
    images, labels = next(iter(data.val_dataloader()["site-1"]))
    assert torch.equal(data.on_after_batch_transfer([images, labels], 0)[0], data.normalise(images))


@pytest.mark.slow
def test_a_fit_sees_the_same_images_with_any_number_of_workers() -> None:
    def weights(augmentation: Augmentation, workers: int = 0) -> str:
        torch.manual_seed(0)
        module = ImageClassifier("slim_resnet18")
        transfer = CyclicalWeightTransfer(every_n_epochs=1, seed=3)
        trainer(transfer, max_epochs=2).fit(module, phantoms(augmentation, num_workers=workers))
        return fingerprint(module.state_dict())[0]

    first = weights(DeviceAugmentation(crop=0.5))
    assert weights(DeviceAugmentation(crop=0.5), 2) == first
    assert weights(DeviceAugmentation()) != first


def test_a_contact_sheet_shows_what_it_does() -> None:
    settings: dict[str, Any] = {"rotation": 0, "vertical_flip": False}
    on_device, before = (phantoms(kind(**settings)) for kind in (DeviceAugmentation, Augmentation))
    assert np.array_equal(draw_sheet(on_device, "site-1"), draw_sheet(before, "site-1"))
