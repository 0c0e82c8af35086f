from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lit_dist.callbacks import PredictionWriter
from small import trainer


class Sums(pl.LightningModule):
    """Predicts the sum of an input, in the shape that is asked for."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def predict_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> Any:
        return batch[0].sum(dim=1).reshape(-1, *self.shape)


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("sites", [["a"], ["a", "b"]])
def test_values_of_a_regression_are_written_one_an_image(shape: tuple[int, ...], sites: list[str]) -> None:
    inputs = torch.arange(10.0).reshape(5, 2)
    loaders = {site: DataLoader(TensorDataset(inputs), batch_size=2) for site in sites}
    trainer(PredictionWriter()).predict(Sums(shape), loaders)
    table = pd.read_csv(Path("predictions.csv"))
    assert list(table) == ["site", "index", "value"]
    assert list(table["value"]) == inputs.sum(dim=1).tolist() * len(sites)
    assert list(table["site"]) == [site for site in sites for _ in range(5)]
