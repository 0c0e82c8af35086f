"""TableRows: the records of one site and one split of a table, as a torch dataset."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_dist.datamodules.sampler import Draw

Batch = tuple[Tensor, Tensor]


class TableRows(Dataset[Batch]):
    """Records with their targets; a batch is fetched whole.

    Args:
        values: The values, float32, (records, columns).
        targets: The targets, (records, ...).
        table: The records' rows of the datamodule's table.
    """

    def __init__(self, values: Tensor, targets: Tensor, table: pd.DataFrame) -> None:
        self.values = values
        self.targets = targets
        self.table = table

    def __len__(self) -> int:
        return len(self.values)

    def __getitems__(self, keys: Sequence[int] | Sequence[Draw]) -> Batch:
        """A batch, by the records' places; a loader asks for it where there is this method."""
        rows = torch.from_numpy(np.array([key[0] if isinstance(key, tuple) else key for key in keys], np.int64))
        return self.values[rows], self.targets[rows]

    def __getitem__(self, key: int | Draw) -> Batch:
        values, targets = self.__getitems__([key])  # type: ignore[arg-type]  # a list of one kind
        return values[0], targets[0]


def as_batch(batch: Batch) -> Batch:
    """A loader's ``collate_fn``: a batch is fetched whole, so there is nothing to put together."""
    return batch
