"""RemoteData: stands for the images of a federation's sites, none of which is at the server."""

from collections.abc import Collection, Iterator, Mapping
from itertools import repeat
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lit_dist.federation.partial_fit import Elsewhere
from lit_dist.federation.roster import Roster
from lit_dist.federation.validate_answer import check_sums
from lit_dist.federation.wire import Tree
from lit_dist.models.column_sums import Columns, Sums
from lit_dist.utils.errors import InputError


class RemoteData(pl.LightningDataModule):
    """The sites' images, none of which is here.

    Args:
        greetings: What each site has said of itself.
        roster: The sites, to be asked for sums of a table's columns.

    Raises:
        InputError: If the sites' classes are not as many.
    """

    def __init__(self, greetings: Mapping[str, Tree], roster: Roster | None = None) -> None:
        super().__init__()
        self._roster = roster
        self._records = {site: greeting.get("images", 0) for site, greeting in greetings.items()}
        classes = {greeting.get("classes") for greeting in greetings.values()} - {None}
        if len(classes) > 1:
            told = ", ".join(f"{site}: {greeting.get('classes')}" for site, greeting in greetings.items())
            raise InputError(f"the sites have different numbers of classes ({told})")
        if classes:
            self.num_classes = classes.pop()
        self.batches = {site: greeting["batches"] for site, greeting in greetings.items()}
        self.left_out: Collection[str] = ()

    def column_sums(self, columns: Columns) -> dict[str, Sums]:
        """Sums and counts over the training records of each site that answers.

        Raises:
            InputError: If a site refuses, or its answer cannot be of its records.
        """
        assert self._roster is not None
        found = self._roster.ask("estimate", {})
        if self._roster.missing:
            rank_zero_warn(f"the preparation of the columns lacks the records of {', '.join(self._roster.missing)}")
        return {site: check_sums(site, answer, columns, self._records[site]) for site, answer in found.items()}

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
