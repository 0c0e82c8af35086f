"""Predictions of new images by a run's model, as a table for people."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from lit_dist.callbacks.prediction_writer import columns_of
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.images.new_images import NewImages
from lit_dist.runs.site_layers import check_choice, site_layers, spread
from lit_dist.runs.trained import TrainedRun
from lit_dist.utils.errors import InputError

PROBLEM, STATISTICS = "problem", "statistics"

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


def image_data(run: TrainedRun) -> ImageDataModule:
    """The run's datamodule; ``InputError`` if it is none of images, or prepares them otherwise than the run did."""
    data = run.data
    if not isinstance(data, ImageDataModule):
        raise InputError(f"this run's records are no images, but those of {type(data).__name__}: give --table")
    was, own = run.signature.get("preparation"), data.signature()["preparation"]
    if was is not None and was != own:
        raise InputError(
            f"the run's images were prepared by {was}, and this release prepares them by {own}: use the release of"
            " lit_dist that trained it"
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
            for block in track(blocks, "Predicting", disable=len(blocks) < 2):
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
    task = run.task
    answers: dict[str, Any] = task.answers(predictions) if task is not None else columns_of(predictions)
    added = {_free(name, known): pd.Series(values, list(places)) for name, values in answers.items()}
    columns: dict[str, Any] = {**added, **({STATISTICS: statistics} if statistics else {}), PROBLEM: list(problems)}
    clash = [name for name in columns if name in known]
    if clash:
        raise InputError(f"the table has a column {clash[0]!r}, which the predictions have: rename it")
    return NewPredictions(known.reset_index(drop=True).assign(**columns), statistics)


def _free(name: str, known: pd.DataFrame) -> str:
    """The name of a class's column, where another column may have it."""
    taken = name in (PROBLEM, STATISTICS) or (name in known and name not in ("prediction", "value", "log_risk"))
    return f"probability of {name}" if taken else name
