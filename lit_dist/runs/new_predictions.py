"""Predictions of new images by a run's model, as a table for people."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dist.callbacks.prediction_writer import columns_of
from lit_dist.datamodules.frozen_encoder import FrozenEncoder
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.images.new_images import NewImages
from lit_dist.datamodules.label_table import row_number
from lit_dist.datamodules.tabular import TabularDataModule, standardise
from lit_dist.runs.site_layers import check_choice, site_layers, spread
from lit_dist.runs.trained import TrainedRun
from lit_dist.utils.errors import InputError
from lit_dist.utils.progress import tracked

PROBLEM, STATISTICS, REMARKS = "problem", "statistics", "remarks"
_AT_ONCE = 1024

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class NewPredictions:
    """What a model says of new records.

    Attributes:
        table: A row a record: what was known of it, what is predicted, and the problem with it, if there is one.
        statistics: Whose statistics of batch normalisation the model had; empty where it has one set of them.
    """

    table: pd.DataFrame
    statistics: str

    @property
    def failed(self) -> pd.DataFrame:
        """The rows without a prediction."""
        return self.table[self.table[PROBLEM] != ""]


def predict_images(run: TrainedRun, found: NewImages, site: str | None, estimated: bool) -> NewPredictions:
    """Predict new images, each prepared as the run's were.

    Args:
        run: The run.
        found: The images.
        site: See ``site_layers``, as for the next.
        estimated: Whether statistics of batch normalisation are estimated from these images.

    Raises:
        InputError: If the run's model is none of images, none of these can be read, or see ``site_layers``.
    """
    data = image_data(run)
    check_choice(run, site, estimated)
    prepared = _Prepared(data, found)
    with site_layers(run, site, estimated, prepared.sample) as statistics:
        places, parts = [], []
        for rows, images in prepared.batches(range(len(found.files))):
            parts.append(run.predict(images))
            places += rows
    if not parts:
        reasons = "\n".join(f"{name}: {why}" for name, why in prepared.reasons()[:5])
        raise InputError(f"none of the {len(found.files)} images can be read:\n{reasons}")
    return table_of(run, found.table, prepared.problems, places, torch.cat(parts), statistics)


def predict_table(run: TrainedRun, path: Path, site: str | None, estimated: bool) -> NewPredictions:
    """Predict the records of another table, by the rules of the run's: see ``TabularDataModule.new_rows``.

    The result has the columns that are no features, and ``remarks``: which values are missing, and which categories the
    model does not know.

    Args:
        run: The run.
        path: The table.
        site: None: a run on a table has nothing of a site's own.
        estimated: Whether the numeric columns are standardised by these records, where the run did so by site.

    Raises:
        InputError: If the run is none on a table, or the table does not fit it.
    """
    data = run.data
    if not isinstance(data, TabularDataModule):
        raise InputError(f"this run's records are those of {type(data).__name__}, not of a table: give --images")
    numeric, categorical = run.columns("numeric"), run.columns("categorical")
    if not run.standardised or site is not None:
        check_choice(run, site, estimated)
    elif not estimated:
        raise InputError(
            "this run standardised the columns of each site by its own records (standardise_sites): take --statistics"
            " estimate, which does so by the records of this table, all of one new site"
        )
    values, table = data.new_rows(path, numeric, categorical)
    remarks = remarks_of(values, table, categorical, numeric, getattr(run.module, "preparation", None))
    if run.standardised:
        standardise(values, range(len(values)), range(len(values)), len(numeric))
    predictions = torch.cat([run.predict(part) for part in values.split(_AT_ONCE)])
    others = table.drop(columns=[*numeric, *categorical])
    if REMARKS in others:
        raise InputError(f"the table has a column {REMARKS!r}, which the predictions have: rename it")
    known = others if len(others.columns) else pd.DataFrame({"row": [row_number(row) for row in table.index]})
    known = known.assign(**{REMARKS: remarks})
    statistics = f"columns standardised by these {len(values)} records" if run.standardised else ""
    return table_of(run, known, [""] * len(values), range(len(values)), predictions, statistics)


def remarks_of(
    values: Tensor, table: pd.DataFrame, categorical: Sequence[str], numeric: Sequence[str], preparation: Any
) -> list[str]:
    """What is to be known of each record: its missing values, and its categories that the model does not know."""
    found: list[list[str]] = [[] for _ in range(len(values))]
    missing = values.isnan()
    for row, column in missing.nonzero().tolist():
        found[row].append(f"no {[*numeric, *categorical][column]}")
    known = getattr(preparation, "codes", None)
    codes: Any = [] if known is None else known.cpu()
    for number, name in enumerate(categorical if len(codes) else ()):
        place = len(numeric) + number
        unknown = ~missing[:, place] & ~torch.isin(values[:, place], codes[number].to(values))
        for row in unknown.nonzero().flatten().tolist():
            found[row].append(f"{name} {table[name].iloc[row][:50]!r} is unknown to the model")
    most = 5
    return ["; ".join(each[:most] + [f"and {len(each) - most} more"] * (len(each) > most)) for each in found]


def image_data(run: TrainedRun) -> ImageDataModule:
    """The run's datamodule; ``InputError`` if it is none of images, or prepares them otherwise than the run did."""
    data = run.data.images if isinstance(run.data, FrozenEncoder) else run.data
    if not isinstance(data, ImageDataModule):
        raise InputError(f"this run's records are no images, but those of {type(data).__name__}: give --table")
    own = run.data.signature()
    for name in ("preparation", "features_sha256"):
        was = run.signature.get(name)
        if was is not None and was != own.get(name):
            raise InputError(
                f"the run's images were prepared by {was}, and this release prepares them by {own.get(name)}: use the"
                " release of lit_dist that trained it"
            )
    return data


class _Prepared:
    """New images, prepared batch by batch, so that any number of them need no more memory than a batch."""

    def __init__(self, data: ImageDataModule, found: NewImages) -> None:
        self.data = data
        self.found = found
        self.problems = list(found.problems)

    def batches(self, rows: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        """The rows that can be read, with their images, uint8, (images, 3, height, width)."""
        size = self.data.batch_size
        blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for block in tracked(blocks, "Predicting", len(blocks)):
                images: dict[int, Pixels] = {}
                for row, result in zip(block, pool.map(self._image, block), strict=True):
                    if isinstance(result, str):
                        self.problems[row] = result
                    else:
                        images[row] = result
                if images:
                    yield list(images), _stacked(list(images.values()))

    def sample(self, wanted: int) -> list[Tensor]:
        """Batches of so many images, all over the rows that can be read."""
        rows = [row for row, problem in enumerate(self.problems) if not problem]
        return [images for _, images in self.batches([rows[place] for place in spread(len(rows), wanted)])]

    def reasons(self) -> list[tuple[str, str]]:
        """Each row's name and problem."""
        return list(zip(self.found.table.iloc[:, 0].astype(str), self.problems, strict=True))

    def _image(self, row: int) -> Pixels | str:
        file = self.found.files[row]
        return self.problems[row] if file is None else self.data.prepared(file)


def _stacked(images: Sequence[Pixels]) -> Tensor:
    if len({image.shape for image in images}) > 1:
        raise InputError("the datamodule prepares images of different sizes, so they make no batch: let it give one")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def table_of(
    run: TrainedRun,
    known: pd.DataFrame,
    problems: Sequence[str],
    places: Sequence[int],
    predictions: Tensor,
    statistics: str,
) -> NewPredictions:
    """The table of some predictions.

    Args:
        run: The run.
        known: What is known of each record.
        problems: Why there is none, by row; empty where there is one.
        places: The rows that there are predictions of.
        predictions: These, (records, ...).
        statistics: Whose statistics of batch normalisation the model had.

    Raises:
        InputError: If a column of the table has the name of one that is added.
    """
    task, problems = run.task, list(problems)
    sound = predictions.reshape(len(predictions), -1).isfinite().all(dim=1)
    for place in (~sound).nonzero().flatten().tolist():
        problems[places[place]] = "what the model gives for it is not a number"
    predictions, places = predictions[sound], [row for row, fine in zip(places, sound.tolist(), strict=True) if fine]
    answers: dict[str, Any] = task.answers(predictions) if task is not None else columns_of(predictions)
    added = {_free(name, known): pd.Series(values, list(places)) for name, values in answers.items()}
    columns: dict[str, Any] = {**added, **({STATISTICS: statistics} if statistics else {}), PROBLEM: problems}
    clash = [name for name in columns if name in known]
    if clash:
        raise InputError(f"the table has a column {clash[0]!r}, which the predictions have: rename it")
    return NewPredictions(known.reset_index(drop=True).assign(**columns), statistics)


def _free(name: str, known: pd.DataFrame) -> str:
    """The name of a class's column, where another column may have it."""
    taken = name in (PROBLEM, STATISTICS) or (name in known and name not in ("prediction", "value", "log_risk"))
    return f"probability of {name}" if taken else name
