"""PredictionWriter: what ``lit-dist predict`` leaves behind."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from lit_dist.checkpoints.run_folder import run_folder
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import check_kind, replacing

if TYPE_CHECKING:  # imported where it is used: a project that adds a transfer needs no tables
    import pandas as pd


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions.csv`` into the run's folder: one row an image, with each class's probability or the value.

    It works for modules whose ``predict_step`` returns float (images, classes), or (images,) for a regression, over a
    dict of site loaders; of our own datasets it also writes the image, patient and label. With several processes each
    writes a file of its own.

    Attributes:
        name: What the file is called, without ``.csv``.
    """

    takes_part = False

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")
        self.name = "predictions"

    @override
    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        import pandas as pd

        loaders = trainer.predict_dataloaders
        if not isinstance(loaders, Mapping):
            return
        if len(loaders) == 1:  # Lightning leaves a level out then
            predictions = [predictions]
        tables = [
            _site_table(site, loader, batches, indices, getattr(pl_module, "task", None))
            for (site, loader), batches, indices in zip(loaders.items(), predictions, batch_indices, strict=True)
        ]
        process = "" if trainer.world_size == 1 else f"-{trainer.global_rank}"
        path = run_folder(trainer) / f"{self.name}{process}.csv"
        check_kind(path)
        with replacing(path) as file:
            pd.concat(tables, ignore_index=True).to_csv(file, index=False)
        rank_zero_info(f"Predictions are in {path}")


def _site_table(
    site: str, loader: Any, batches: Sequence[torch.Tensor], indices: Sequence[Sequence[int]], task: Any
) -> "pd.DataFrame":
    import pandas as pd

    order = [index for batch in indices for index in batch]
    predicted = torch.cat([batch.reshape(len(batch), -1) for batch in batches])
    rows = pd.DataFrame({"site": site, "index": order})
    known = getattr(loader.dataset, "table", None)
    if isinstance(known, pd.DataFrame):
        columns = [column for column in ("image", "patient", "label") if column in known]
        rows = pd.concat([rows, known[columns].iloc[order].reset_index(drop=True)], axis=1)
    for name, column in columns_of(predicted, task).items():
        rows[name] = column
    return rows


def columns_of(predictions: torch.Tensor, task: Any = None) -> dict[str, Any]:
    """The columns of predictions, (records, ...), by name: those of the task, unless a module gives others."""
    values = predictions.reshape(len(predictions), -1).float().cpu().numpy().T
    names = task.columns if isinstance(task, Task) else []
    if len(names) != len(values):
        names = ["value"] if len(values) == 1 else [f"probability_{number}" for number in range(len(values))]
    return dict(zip(names, values, strict=True))
