"""What every datamodule of the package promises; each one's tests inherit it."""

import atexit
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader

from lit_dist import ImageClassifier
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.datamodules import InstitutionDataModule, SiteDataModule
from lit_dist.datamodules.table_1 import characteristics, flow
from lit_dist.utils.errors import InputError
from lit_dist.visits.site_loader import SiteLoader
from small import trainer

Make = Callable[..., SiteDataModule]
MakeImages = Callable[..., InstitutionDataModule]

Data = TypeVar("Data", bound=SiteDataModule)

_FOLDER = TemporaryDirectory()
atexit.register(_FOLDER.cleanup)


@cache
def once(write: Callable[[Path], Path]) -> Path:
    """A collection that is written once a process, and whose images are prepared once, for tests that only read it."""
    return write(Path(mkdtemp(dir=_FOLDER.name)) / "root")


def pixels_of(data: InstitutionDataModule) -> np.ndarray:
    """The prepared images, in the order of the table."""
    data.prepare_data()
    images, slots = data.pixels(data.table)
    return np.stack([images[slot] for slot in slots])


class RecordContract:
    """A subclass gives the fixture ``make``: settings to a datamodule over small data of any kind."""

    @staticmethod
    def model(data: SiteDataModule) -> LightningModule:
        """A module that trains on its batches."""
        return ImageClassifier("slim_resnet18", num_classes=data.num_classes)

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        raise NotImplementedError

    @staticmethod
    def ready(data: Data) -> Data:
        data.prepare_data()
        data.setup("fit")
        return data

    def test_one_loader_a_site_for_every_split(self, make: Make) -> None:
        data = self.ready(make(sites=3))
        assert len(data.sites) == 3
        for loaders in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            assert isinstance(loaders, dict)
            assert list(loaders) == data.sites
            assert all(isinstance(loader, DataLoader) for loader in loaders.values())

    def test_every_image_is_in_one_place_and_no_patient_in_two(self, make: Make) -> None:
        table = self.ready(make()).table
        assert not table["image"].duplicated().any()
        assert (table.groupby("patient")["site"].nunique() == 1).all()
        assert (table.groupby("patient")["split"].nunique() == 1).all()
        assert set(table["split"]) == {"train", "val", "test"}

    def test_a_report_can_say_who_the_records_are_of(self, make: Make) -> None:
        data = self.ready(make(sites=3))
        table, steps = characteristics(data).set_index("site"), flow(data).set_index("step")["records"]
        assert table.index.tolist() == [*data.sites, "all sites"]
        assert table.loc[data.sites, "records"].sum() == steps["used"] == len(data.table)
        assert steps["found"] == steps["used"] + sum(data.left_out_of.values())

    def test_the_same_settings_give_the_same_places_and_another_seed_others(self, make: Make) -> None:
        places = [self.ready(make(split_seed=seed)).table.set_index("image")["split"] for seed in (0, 0, 1)]
        assert places[0].equals(places[1])
        assert not places[0].equals(places[2])

    def test_splits_written_by_one_run_are_read_by_another(self, make: Make, tmp_path: Path) -> None:
        transfer = CyclicalWeightTransfer(every_n_epochs=1)
        run = trainer(transfer, max_epochs=1, limit_val_batches=0, limit_train_batches=1, default_root_dir=tmp_path)
        first = make(split_seed=3)
        run.fit(self.model(first), first)
        header = (tmp_path / "splits.csv").read_text().splitlines()[0]
        assert header == "image,patient,site,split,label"
        second = self.ready(make(splits=tmp_path / "splits.csv"))
        columns = ["image", "patient", "site", "split", "label"]
        assert second.table[columns].equals(first.table[columns])
        assert second.sites == first.sites, "a transfer that visits them in turn does so in the same turn"
        assert list(second.train_dataloader()) == list(first.train_dataloader())

    def test_the_pool_has_the_images_of_all_sites(self, make: Make) -> None:
        data, pool = self.ready(make()), self.ready(make(centralized=True))
        loader = pool.train_dataloader()
        assert isinstance(loader, SiteLoader)
        assert loader.sites == ("central",)
        pooled = sorted(loader.loaders["central"].dataset.table["image"])
        assert pooled == sorted(name for one in data.train_dataloader().values() for name in one.dataset.table["image"])
        assert list(pool.val_dataloader()) == list(pool.test_dataloader()) == data.sites
        here, there = next(iter(loader))[0][0], next(iter(data.train_dataloader()[data.sites[0]]))[0]
        assert (here.dtype, here.shape[1:]) == (there.dtype, there.shape[1:])

    def test_one_site_alone_is_tested_on_all(self, make: Make) -> None:
        name = self.ready(make()).sites[1]
        data = self.ready(make(only_site=name))
        assert list(data.train_dataloader().loaders) == [name]
        assert list(data.val_dataloader()) == [name]
        assert list(data.test_dataloader()) == data.sites

    def test_an_external_site_is_only_tested_on_and_changes_nothing_at_the_others(self, make: Make) -> None:
        before = self.ready(make())
        name = before.sites[1]
        data = self.ready(make(external=[name]))
        others = [site for site in before.sites if site != name]
        assert list(data.train_dataloader()) == list(data.val_dataloader()) == data.training_sites == others
        assert list(data.test_dataloader()) == data.sites == before.sites
        own = before.table["site"] == name
        assert (data.table.loc[own, "split"] == "test").all()
        assert data.table[~own].equals(before.table[~own])
        pool = self.ready(make(external=[name], centralized=True)).train_dataloader()
        assert name not in set(pool.loaders["central"].dataset.table["site"])

    @pytest.mark.parametrize(
        ("external", "message"), [(["nowhere"], "there is no site 'nowhere'"), (None, "no site is left to train at")]
    )
    def test_external_sites_that_leave_nothing_are_refused(
        self, make: Make, external: list[str] | None, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            self.ready(make(external=external or self.ready(make()).sites))

    def test_an_unknown_only_site_is_refused(self, make: Make) -> None:
        with pytest.raises(InputError, match="'nowhere' has no training records"):
            self.ready(make(only_site="nowhere"))

    @pytest.mark.parametrize("workers", [1, 2])
    def test_records_do_not_depend_on_the_number_of_workers(self, make: Make, workers: int) -> None:
        def drawn(data: SiteDataModule) -> list[torch.Tensor]:
            loader = data.train_dataloader()[data.sites[0]]
            loader.sampler.seed_pass(11)
            return [batch[0] for batch in loader]

        alone, helped = drawn(self.ready(make())), drawn(self.ready(make(num_workers=workers)))
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(alone, helped, strict=True))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"sites": 0}, "sites=0 is not"),
            ({"sites": ["a", "b", "a"]}, "stands twice"),
            ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave no patients for training"),
            ({"batch_size": 0}, "batch_size=0"),
            ({"centralized": True, "only_site": "a"}, "set one of them"),
        ],
    )
    def test_refused_settings(self, make: Make, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            make(**settings)


class DataModuleContract(RecordContract):
    """The same for a collection of images."""

    def test_batches_are_uint8_images_with_labels_and_become_normalised_floats(self, make: MakeImages) -> None:
        data = self.ready(make(batch_size=4))
        images, labels = next(iter(data.train_dataloader()[data.sites[0]]))
        assert (images.dtype, images.ndim, images.shape[:2]) == (torch.uint8, 4, (4, 3))
        assert (labels.dtype, labels.shape) == (torch.int64, (4,))
        assert set(labels.tolist()) <= set(range(data.num_classes))
        floats, _ = data.on_after_batch_transfer((images, labels), 0)
        expected = (images.double() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        assert torch.allclose(floats.double(), expected, atol=1e-5)

    def test_augmentation_changes_training_images_only_and_with_every_pass(self, make: MakeImages) -> None:
        data = self.ready(make())
        loader = data.train_dataloader()[data.sites[0]]
        passes = []
        for seed in (1, 1, 2):
            loader.sampler.seed_pass(seed)
            order = [draw.row for draw in loader.sampler]
            images = torch.cat([batch[0] for batch in loader])
            passes.append(images[torch.tensor(order[: len(images)]).argsort()])
        assert torch.equal(passes[0], passes[1])
        assert not torch.equal(passes[0], passes[2])
        validation = [torch.cat([b[0] for b in data.val_dataloader()[data.sites[0]]]) for _ in range(2)]
        assert torch.equal(*validation)
        dataset = data.val_dataloader()[data.sites[0]].dataset
        assert torch.equal(
            validation[0][0], torch.from_numpy(dataset.pixels[dataset.slots[0]].transpose(2, 0, 1).copy())
        )
