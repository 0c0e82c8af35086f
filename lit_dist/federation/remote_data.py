"""RemoteData: stands for the images of a federation's sites, none of which is at the server."""

from collections.abc import Collection, Iterator, Mapping
from itertools import repeat
from typing import Any

import lightning.pytorch as pl
import torch
from typing_extensions import override

from lit_dist.federation.partial_fit import Elsewhere
from lit_dist.federation.wire import Tree
from lit_dist.utils.errors import InputError


class RemoteData(pl.LightningDataModule):
    """The sites' images, none of which is here."""

    def __init__(self, greetings: Mapping[str, Tree]) -> None:
        super().__init__()
        classes = {greeting.get("classes") for greeting in greetings.values()} - {None}
        if len(classes) > 1:
            told = ", ".join(f"{site}: {greeting.get('classes')}" for site, greeting in greetings.items())
            raise InputError(f"the sites have different numbers of classes ({told})")
        if classes:
            self.num_classes = classes.pop()
        self.batches = {site: greeting["batches"] for site, greeting in greetings.items()}
        self.left_out: Collection[str] = ()

    @override
    def train_dataloader(self) -> dict[str, Any]:
        return {
            site: (Nothing if site in self.left_out else Elsewhere)(site, number)
            for site, number in self.batches.items()
        }

    @override
    def val_dataloader(self) -> list[int]:
        return [0]  # for one validation step, which logs what the sites have found


class Nothing(Elsewhere):
    """Stands for the batches of a visit that is left out: as many, without an image."""

    @override
    def __iter__(self) -> Iterator[torch.Tensor]:
        return repeat(torch.empty(0), self.batches)
