from typing import Any

import numpy as np
import pytest
import torch

from lit_dist.datamodules import InstitutionDataModule, PhantomDataModule
from lit_dist.datamodules.images.site_images import degraded
from lit_dist.utils.errors import InputError

BOARD = np.repeat((np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


def phantoms(**settings: Any) -> PhantomDataModule:
    data = PhantomDataModule(**{"sites": 3, "patients": 20, "size": 32, **settings})
    data.setup("fit")
    return data


def drawn(data: InstitutionDataModule, sites: list[str], split: str) -> dict[str, torch.Tensor]:
    """The images of some sites and a split, by name and without augmentation."""
    dataset = data.dataset(sites, split)
    return {name: dataset[row][0] for row, name in enumerate(dataset.table["image"])}


@pytest.mark.parametrize("shape", [(32, 32, 3), (17, 40, 3), (1, 1, 3)])
@pytest.mark.parametrize("factor", [1, 1.5, 2, 8, 1000])
def test_shape_and_type_stay(shape: tuple[int, int, int], factor: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    found = degraded(image, factor)
    assert (found.shape, found.dtype) == (shape, np.uint8)
    assert (image == before).all()
    assert factor > 1 or (found == image).all()


def test_fine_detail_becomes_grey_and_the_mean_stays() -> None:
    for factor in (2, 4, 8):
        found = degraded(BOARD, factor)
        assert np.abs(found.astype(int) - 127).max() <= 1
    halves = np.where(np.arange(32)[None, :, None] < 16, 0, 255).astype(np.uint8) * np.ones((32, 1, 3), np.uint8)
    found = degraded(halves, 4)
    assert (found[:, :12] == 0).all()
    assert (found[:, 20:] == 255).all(), "what is coarse is still there"


def test_training_and_validation_of_the_named_site_alone_are_degraded() -> None:
    sharp, poor = phantoms(), phantoms(degrade={"site-2": 4})
    for site in sharp.sites:
        for split in ("train", "val", "test"):
            before, after = drawn(sharp, [site], split), drawn(poor, [site], split)
            assert before.keys() == after.keys()
            assert before
            for name, image in before.items():
                expected = image
                if site == "site-2" and split != "test":
                    expected = torch.from_numpy(degraded(image.permute(1, 2, 0).numpy(), 4)).permute(2, 0, 1)
                    assert not torch.equal(expected, image)
                assert torch.equal(after[name], expected)


def test_each_site_has_its_own_factor() -> None:
    sharp, poor = phantoms(), phantoms(degrade={"site-1": 8, "site-3": 2})
    lost = []
    for site in sharp.sites:
        before, after = drawn(sharp, [site], "train"), drawn(poor, [site], "train")
        lost.append(np.mean([(before[name].float() - after[name].float()).abs().mean() for name in before]))
    assert lost[0] > lost[2] > lost[1] == 0


def test_the_pool_has_the_degraded_images() -> None:
    poor = phantoms(degrade={"site-2": 4})
    pool = phantoms(degrade={"site-2": 4}, centralized=True)
    loader = pool.train_dataloader()
    dataset = loader.loaders["central"].dataset  # type: ignore[union-attr]
    apart = {name: image for site in poor.sites for name, image in drawn(poor, [site], "train").items()}
    assert dataset.table["image"].tolist() == list(apart)
    assert all(torch.equal(dataset[row][0], image) for row, image in enumerate(apart.values()))


def test_a_training_image_is_degraded_before_it_is_augmented() -> None:
    poor = phantoms(degrade={"site-2": 4})
    loader = poor.train_dataloader()["site-2"]
    loader.sampler.seed_pass(3)
    for draw in loader.sampler:
        image = loader.dataset.pixels[loader.dataset.slots[draw.row]]
        expected = poor.augmentation(degraded(np.asarray(image), 4)[None], np.array([draw.seed], np.uint64))
        assert torch.equal(loader.dataset[draw][0], torch.from_numpy(expected).permute(0, 3, 1, 2)[0])


@pytest.mark.parametrize(("site", "factor"), [*((2, bad) for bad in (0, 0.5, -2, np.nan, np.inf)), (9, 4)])
def test_a_factor_or_site_that_is_none_is_refused(site: int, factor: float) -> None:
    with pytest.raises(InputError, match=r"degrade=\{.* gives a factor from 1 for some of site-1, site-2, site-3"):
        phantoms(degrade={"site-1": 2, f"site-{site}": factor})
