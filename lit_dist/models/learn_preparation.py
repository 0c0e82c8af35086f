"""Lets a fit learn the preparation of a table from sums over the training records of its sites."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, IterableDataset

from lit_dist.checkpoints.baton import fingerprint
from lit_dist.models.column_sums import Sums
from lit_dist.models.table_preparation import TablePreparation
from lit_dist.provenance.estimation import Estimated
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import train_source
from lit_dist.visits.site_loader import SiteLoader


def learn_preparation(trainer: Trainer, preparation: TablePreparation) -> Estimated | None:
    """Learn it, unless it has been: from the training records of all sites, or the sums that a federation's send.

    Returns:
        From what; None if there was nothing to learn.

    Raises:
        InputError: If there are not enough records, or batches that are no rows of a table.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    at_site = any(
        getattr(each, "at_site", False) for each in callbacks
    )  # weights come from the server, which has asked
    if preparation.records or at_site:
        return None
    start = time.monotonic()
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    asked = getattr(data, "column_sums", None)  # of a federation's sites
    sums: dict[str, Sums] = asked(preparation.columns) if asked else _sums_here(trainer, preparation)
    preparation.learn(sums.values())
    hashes = [fingerprint(each) for each in sums.values()]
    records = [int(each["records"]) for each in sums.values()]
    few = [site for site, number in zip(sums, records, strict=True) if not number]
    if few:
        rank_zero_warn(f"{', '.join(few)} had too few records for a sum, so the preparation has learnt nothing of them")
    rank_zero_info(f"The preparation of the table's columns was learnt from sums of {sum(records)} training records")
    return Estimated(
        what=type(preparation).__name__,
        sites=list(sums),
        records=records,
        parents=[sha256 for sha256, _ in hashes],
        sizes=[size for _, size in hashes],
        sums=sorted(next(iter(sums.values()))),
        seconds=round(time.monotonic() - start, 6),
    )


def _sums_here(trainer: Trainer, preparation: TablePreparation) -> dict[str, Sums]:
    source: Any = train_source(trainer)
    loaders = source.train_dataloader() if hasattr(source, "train_dataloader") else source
    loaders = loaders.loaders if isinstance(loaders, SiteLoader) else loaders
    by_site = loaders if isinstance(loaders, Mapping) else {"all": loaders}
    return {str(site): preparation.sums(in_order(loader)) for site, loader in by_site.items()}


def in_order(loader: Any) -> Iterator[Any]:
    """The records of a loader, each once, as batches ``(inputs, targets)``; no generator is drawn from.

    Raises:
        InputError: If the loader has no dataset with indices, or its batches are no rows of a table.
    """
    dataset = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or dataset is None or isinstance(dataset, IterableDataset):
        raise InputError(
            f"the preparation of a table is learnt from a DataLoader over a dataset with indices, not from a"
            f" {type(loader).__name__}"
        )
    own = torch.Generator()  # else the loader draws a seed from the global one
    for batch in DataLoader(dataset, batch_size=_AT_ONCE, collate_fn=loader.collate_fn, generator=own):
        fits = isinstance(batch, list | tuple) and len(batch) == 2 and isinstance(batch[0], torch.Tensor)
        if not fits or batch[0].ndim != 2:
            raise InputError("TabularPredictor takes batches (inputs, targets), the inputs of shape (records, columns)")
        yield batch


_AT_ONCE = 1024
