"""The records of a batch are counted, whatever a project's batches are made of."""

from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, zeros
from torch.nn.utils.rnn import pack_sequence

from lit_dist.visits.batch_size import batch_size

Pair = namedtuple("Pair", "image label")


@dataclass
class Sample:
    site: str
    image: Tensor
    label: Tensor


def box(number: int) -> dict[str, Tensor]:
    return {"boxes": zeros(number, 4), "labels": zeros(number, dtype=torch.long)}


def images(number: int, channels: int = 3, size: int = 32) -> list[Tensor]:
    return [zeros(channels, size, size) for _ in range(number)]


BATCHES: dict[str, tuple[Any, int]] = {
    "a tensor": (zeros(8, 3), 8),
    "inputs and labels": ([zeros(8, 3, 9, 9), zeros(8)], 8),
    "labels of MedMNIST": ([zeros(8, 3, 28, 28), zeros(8, 1, dtype=torch.long)], 8),
    "one record": ([zeros(1, 100, 16), zeros(1, 100, 16)], 1),
    "a mask": ((zeros(4, 1, 9, 9), zeros(4, 9, 9)), 4),
    "nested parts": ([[zeros(8, 2), zeros(8, 5)], zeros(8)], 8),
    "views": ([[zeros(8, 3, 9, 9)] * 6, zeros(8)], 8),
    "views alone": ([zeros(8, 3, 9, 9)] * 2, 8),
    "a mapping": ({"image": zeros(4, 1, 9, 9, 9), "label": zeros(4, 1, 9, 9, 9)}, 4),
    "a mapping whose first part is of no record": ({"weights": zeros(2), "image": zeros(4, 1), "label": zeros(4)}, 4),
    "names beside": ({"image": zeros(4, 1, 9, 9), "path": ["a"] * 4, "spacing": 0.5, "split": "train"}, 4),
    "names first": ({"path": ["a"] * 4, "image": zeros(4, 1, 9, 9), "meta": {"affine": zeros(4, 4, 4)}}, 4),
    "a user's mapping": (UserDict(input_ids=zeros(8, 12), attention_mask=zeros(8, 12), labels=zeros(8)), 8),
    "a detector's": ((images(8), [box(1)] * 8), 8),
    "a detector's two": ((images(2), [box(3)] * 2), 2),
    "a detector's of sizes": ((tuple(zeros(3, 30 + n, 40) for n in range(3)), tuple(map(box, (0, 5, 3)))), 3),
    "a detector's one": ((images(1), [box(1)]), 1),
    "grey images": ((images(5, channels=1), [box(1)] * 5), 5),
    "a batch of images and a list of boxes": ((zeros(8, 3, 9, 9), [box(n % 3) for n in range(8)]), 8),
    "pixel values and a list": ({"pixel_values": zeros(8, 3, 9, 9), "labels": [box(2)] * 8}, 8),
    "images alone": (images(8), 8),
    "images of sizes alone": ([zeros(3, 9, 9), zeros(3, 8, 9)], 2),
    "records as they are": ([(zeros(3, 9, 9), 1) for _ in range(5)], 5),
    "records that are mappings": ([{"image": zeros(1, 9, 9), **box(1)} for _ in range(5)], 5),
    "records of detection": ([(zeros(3, 9, 9), box(n)) for n in (1, 0, 2, 3)], 4),
    "records with masks": ([(zeros(3, 9, 9), zeros(9, 9)) for _ in range(5)], 5),
    "one record as it is": ([{"image": zeros(1, 9, 9), **box(1)}], 1),
    "a part that is not there": ([zeros(8, 3), None], 8),
    "sequences of lengths": ([zeros(5, 2), zeros(7, 2), zeros(3, 2)], 3),
    "sequences and labels": ([[zeros(5, 2), zeros(7, 2), zeros(3, 2)], zeros(3)], 3),
    "a packed sequence": ([pack_sequence([zeros(5, 2), zeros(3, 2)]), zeros(2)], 2),
    "one mapping in a list": ([{"data": zeros(8, 3, 9, 9), "label": zeros(8, 1)}], 8),
    "labelled and unlabelled": ({"labelled": [zeros(4, 3), zeros(4)], "unlabelled": zeros(4, 3)}, 4),
    "one record in parts with names": (({"image": zeros(1, 4)}, {"targets": {"label": zeros(1)}}), 1),
    "a named tuple": (Pair(zeros(8, 3), zeros(8)), 8),
    "a dataclass": (Sample("mgh", zeros(8, 3), zeros(8)), 8),
    "an object": ((SimpleNamespace(tensors=zeros(8, 3, 9, 9), mask=zeros(8, 9, 9)), [box(2)] * 8), 8),
    "graphs": (SimpleNamespace(num_graphs=6, x=zeros(40, 3)), 6),
    "arrays": ([np.zeros((8, 3)), np.zeros(8)], 8),
    "texts": ([["a"] * 8, zeros(8)], 8),
    "texts alone": (["a"] * 8, 8),
    "a bag": ((zeros(1, 50, 512), zeros(1)), 1),
    "nothing": ([], 1),
    "a number": (torch.tensor(3.0), 1),
}


@pytest.mark.parametrize("name", BATCHES)
def test_records_are_counted(name: str) -> None:
    batch, expected = BATCHES[name]
    assert batch_size(batch) == expected
