"""SiteDataModule: sites, patients, splits and loaders for records that are not images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import Dataset

from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.datamodules import InstitutionDataModule, PhantomDataModule, SiteDataModule
from lit_dist.datamodules.sampler import Draw
from lit_dist.utils.errors import InputError
from lit_dist.visits.site_loader import SiteLoader
from small import trainer


class Rows(Dataset[Any]):
    """The rows of a table, by their places."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: int | Draw) -> tuple[float, int]:
        row = self.table.iloc[key.row if isinstance(key, Draw) else key]
        return float(row["height"]), int(row["label"])


class Heights(SiteDataModule):
    """A number a patient, two records each."""

    def read_records(self) -> pd.DataFrame:
        numbers = np.arange(80)
        names = [f"r{n}" for n in numbers]
        return pd.DataFrame({"image": names, "patient": numbers // 2, "label": numbers // 2 % 2, "height": numbers})

    def dataset(self, sites: Sequence[str], split: str) -> Dataset[Any]:
        return Rows(self.table.iloc[self.rows_of(sites, split)])


class Regression(LightningModule):
    """The least that learns from heights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen += batch[0].tolist()
        return torch.square(batch[0] * self.weight - batch[1]).mean()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-5)


def numbers(loader: Any) -> list[float]:
    return [height for heights, _ in loader for height in heights.tolist()]


def test_records_that_are_no_images_have_loaders_by_site() -> None:
    data = Heights(sites=2, batch_size=4)
    data.setup("test")
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    assert [list(each) for each in loaders] == [["site-1", "site-2"]] * 3
    found = sorted(height for each in loaders for loader in each.values() for height in numbers(loader))
    assert found == list(range(80))
    assert (data.table.groupby("patient")[["site", "split"]].nunique() == 1).all(axis=None)


def test_a_transfer_visits_sites_whose_records_are_no_images(tmp_path: Path) -> None:
    data, model = Heights(sites=2, batch_size=4), Regression()
    trainer(CyclicalWeightTransfer(every_n_epochs=1), max_epochs=2).fit(model, data)
    visited = [data.table["height"].iloc[data.rows_of([site], "train")].tolist() for site in data.sites]
    assert [sorted(model.seen[: len(visited[0])]), sorted(model.seen[len(visited[0]) :])] == visited
    assert (tmp_path / "splits.csv").read_text().startswith("image,patient,site,split,label\n")


def test_the_pool_has_the_records_of_all_sites_and_a_batch_of_several_sites_is_refused() -> None:
    data = Heights(sites=2, batch_size=8, centralized=True)
    loader = data.train_dataloader()
    assert isinstance(loader, SiteLoader)
    assert set(numbers(loader.loaders["central"])) <= set(data.table["height"])
    with pytest.raises(InputError, match="several sites"):
        data.on_after_batch_transfer({"site-1": 0, "site-2": 0}, 0)
    with pytest.raises(InputError, match="'valid' is not a split"):
        data.rows_of(data.sites, "valid")


def test_images_are_records_and_the_number_of_sites_may_come_first() -> None:
    assert issubclass(PhantomDataModule, InstitutionDataModule)
    assert issubclass(InstitutionDataModule, SiteDataModule)

    class Mine(InstitutionDataModule):
        read_images, pixels = PhantomDataModule.read_images, PhantomDataModule.pixels  # type: ignore[assignment]

    assert Mine(3).site_names == ["site-1", "site-2", "site-3"]
