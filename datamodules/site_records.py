"""SiteRecords: which records there are, and at which site and in which split each of them is."""

import inspect
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray

from lit_dist.datamodules.label_table import collector_paused
from lit_dist.datamodules.partition import EqualPartition, Partition
from lit_dist.datamodules.splits import (
    CONTENT,
    NUMBER,
    SPLITS,
    assign_sites,
    assign_splits,
    check_copies,
    check_splits,
    in_order,
    number_patients,
    read_splits,
)
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError
from lit_dist.visits.site_names import check_site_names

MOST_SITES = 100_000


class SiteRecords(LightningDataModule, ABC):
    """The table of a datamodule's records, each with its site and split.

    Args:
        sites: The number of simulated sites, or the names of the sites. Of real sites, those to keep; a number keeps
            all.
        partition: How patients are dealt out to simulated sites; equally by default.
        centralized: Whether to pool the training records of all sites into one: the baseline that has all data.
        only_site: Train and validate on this site alone: a single-institution model. It is tested on all sites.
        val_fraction: The share of each site's patients for validation.
        test_fraction: The share of each site's patients for the test.
        splits: A ``splits.csv`` of an earlier run; its sites and splits are used instead of drawn.
        split_seed: The only source of chance in partition and splits.
        allow_one_class: Whether a site may have training records of one class only.
        external: Sites that are only tested on, with all of their records: what a model does at a new hospital.

    Attributes:
        left_out_of: How many records of a site are not used, by its name ("" where sites are simulated) and the reason.

    Raises:
        InputError: If a setting does not fit, or the data is not as it should be.
    """

    class_names: Sequence[str] = ("0", "1")

    def __init__(
        self,
        sites: int | list[str] = 4,
        partition: Partition | None = None,
        centralized: bool = False,
        only_site: str | None = None,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        splits: str | Path | None = None,
        split_seed: int = 0,
        allow_one_class: bool = False,
        external: list[str] | None = None,
    ) -> None:
        super().__init__()
        _check_sites(sites)
        if centralized and only_site is not None:
            raise InputError("centralized pools all sites and only_site takes one; set one of them")
        if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
            raise InputError(
                f"val_fraction={val_fraction} and test_fraction={test_fraction} leave no patients for training"
            )
        if split_seed < 0:
            raise InputError(f"split_seed={split_seed} is not a number from 0")
        self.site_names = [f"site-{n}" for n in range(1, sites + 1)] if isinstance(sites, int) else list(sites)
        self.all_sites = isinstance(sites, int)
        self.partition = partition or EqualPartition()
        self.centralized = centralized
        self.only_site = only_site
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.splits = Path(splits) if splits else None
        self.split_seed = split_seed
        self.allow_one_class = allow_one_class
        self.external = list(external or [])
        if only_site in self.external:
            raise InputError(f"only_site={only_site} is among the external sites, which nothing is trained on")
        self._table: pd.DataFrame | None = None
        self._rows: Mapping[Any, Any] | None = None
        self.left_out_of: Counter[tuple[str, str]] = Counter()

    def deal_like(self, other: "SiteRecords", where: str) -> None:
        """Put the records into the sites and splits that the settings of another datamodule say, which has this one.

        Args:
            other: The other one.
            where: The name of its setting that is this one.

        Raises:
            InputError: If these settings are given to this one, where they would have no effect.
        """
        for name, parameter in inspect.signature(SiteRecords.__init__).parameters.items():
            if name not in ("self", "partition"):
                given = len(self.site_names) if name == "sites" and self.all_sites else getattr(self, _attribute(name))
                if (given or None) != (parameter.default or None):
                    raise InputError(
                        f"{where} sets {name}={given!r}: sites and splits are settings of {type(other).__name__}, not"
                        f" of its {where}"
                    )
                setattr(self, _attribute(name), getattr(other, _attribute(name)))
        if type(self.partition) is not EqualPartition:
            raise InputError(f"{where} sets a partition, which is a setting of {type(other).__name__} itself")
        self.all_sites, self.partition = other.all_sites, other.partition

    # -- what a kind of data implements ------------------------------------------------------------------------------

    @abstractmethod
    def read_records(self) -> pd.DataFrame:
        """The records: columns ``image`` (a name), ``patient``, ``label``, and ``site`` where sites are real.

        A label is what the task has as one: an int64 of a class, a float of a value, a text.

        A collection with a test set of its own marks it in a boolean column ``held_out``. Those records are the test;
        where sites are simulated they are dealt out to them equally.
        """

    def usable(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows whose records can be read; a collection that skips damaged ones narrows it."""
        return table

    def leave_out(self, rows: pd.DataFrame, reason: str) -> None:
        """Count records that are not used.

        Args:
            rows: A row each, with the column ``site`` where sites are real.
            reason: Why they are left out, as it stands after their number.
        """
        sites = rows["site"].tolist() if "site" in rows else [""] * len(rows)
        self.left_out_of.update((site, reason) for site in sites)

    @property
    def learning_task(self) -> Task:
        """What is predicted of the records: by default, one of the classes of ``class_names``."""
        return Classification(self.class_names)

    def signature(self) -> dict[str, Any]:
        """What has to be known of these records to predict new ones, as JSON values; a fit leaves it in its folder."""
        return {"classes": list(getattr(self.learning_task, "class_names", []))}

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.learning_task.outputs

    # -- who is where ------------------------------------------------------------------------------------------------

    @property
    def table(self) -> pd.DataFrame:
        """All records: columns ``image, patient, site, split, label`` and more, one row each."""
        if self._table is None:
            with collector_paused():
                self._table = self._assign(self.read_records())
        return self._table

    @property
    def sites(self) -> list[str]:
        """The names of the sites."""
        present = set(self.table["site"].unique())
        return [site for site in self.site_names if site in present]

    @property
    def training_sites(self) -> list[str]:
        """The names of the sites that have training records."""
        return [site for site in self.sites if site not in self.external]

    def mark_copies(self, images: pd.DataFrame) -> pd.DataFrame:
        """Add the column ``CONTENT``, by which records are copies of each other, where a collection can tell."""
        return images

    def settle_copies(self, images: pd.DataFrame) -> pd.DataFrame:
        """The records without those copies that are not to be used."""
        return images

    def _assign(self, images: pd.DataFrame) -> pd.DataFrame:
        images = self.mark_copies(images)
        table = self._drawn(self.settle_copies(images)) if self.splits is None else self._read_splits(images)
        wanted = table["site"].isin(self.site_names)
        self.leave_out(table[~wanted], "of other sites")
        chosen = self._without_external(table[wanted].reset_index(drop=True))
        check_copies(chosen)
        if self.splits is None:
            check_splits(table.drop(columns=NUMBER) if CONTENT in table else table, "the table of records")
        self._check_table(chosen)
        return chosen.drop(columns=[NUMBER, CONTENT], errors="ignore")

    def _without_external(self, table: pd.DataFrame) -> pd.DataFrame:
        """Make all records of external sites those of the test."""
        known = set(table["site"].unique())
        unknown = [site for site in self.external if site not in known]
        if unknown or known <= set(self.external):
            why = f"there is no site {unknown[0]!r}" if unknown else "no site is left to train at"
            raise InputError(f"external={self.external}: {why}; the data has the sites {', '.join(sorted(known))}")
        return table.assign(split=table["split"].mask(table["site"].isin(self.external), "test"))

    def _drawn(self, images: pd.DataFrame) -> pd.DataFrame:
        numbered = number_patients(images)
        table = self._with_sites(numbered)
        if len(table) < len(images):
            self.leave_out(images[~images["image"].isin(table["image"])], "not dealt out to a site (partition)")
        return assign_splits(table, self.val_fraction, self.test_fraction, self.split_seed, self.learning_task)

    def _read_splits(self, images: pd.DataFrame) -> pd.DataFrame:
        assert self.splits is not None
        table = read_splits(self.splits, images, self.learning_task)
        if len(table) < len(images):
            self.leave_out(images[~images["image"].isin(table["image"])], f"not in {self.splits.name}")
        if self.all_sites:
            self.site_names = in_order(table["site"].unique(), images.get("site", pd.Series()).unique())
        return self.settle_copies(table)

    def _with_sites(self, images: pd.DataFrame) -> pd.DataFrame:
        if "site" not in images:
            return assign_sites(images, self.site_names, self.partition, self.split_seed, self.learning_task)
        if self.all_sites:
            self.site_names = images["site"].unique().tolist()
        return images

    def _check_table(self, table: pd.DataFrame) -> None:
        check_site_names(self.site_names, "the table of records")
        train = table[table["split"] == "train"]
        rows_of, task = train.groupby("site", sort=False).indices, self.learning_task
        trained = [site for site in self.site_names if site not in self.external]
        for site in [*trained, *([self.only_site] if self.only_site else [])]:
            labels = train["label"].iloc[rows_of.get(site, [])]
            if labels.empty:
                known = ", ".join(sorted(train["site"].unique())) or "none"
                raise InputError(f"site {site!r} has no training records; the data has the sites {known}")
            poor = task.poor(labels) if not self.allow_one_class else None
            if poor:
                raise InputError(
                    f"site {site!r} has {len(labels)} training records, {poor}; leave the site out, or set"
                    " allow_one_class=true"
                )

    def rows_of(self, sites: Sequence[str], split: str) -> NDArray[np.int64]:
        """The rows of some sites and one split, as places in ``table``, which now has usable records only."""
        if split not in SPLITS:
            raise InputError(f"{split!r} is not a split; they are {', '.join(SPLITS)}")
        found, none = self._open(), np.empty(0, np.int64)
        return np.sort(np.concatenate([none, *(found.get((site, split), none) for site in sites)]))

    def _open(self) -> Mapping[Any, Any]:
        """The rows of each site and split, once the table is narrowed to what is usable."""
        if self._rows is None:
            usable = self.usable(self.table)
            if len(usable) < len(self.table):
                self.leave_out(self.table[~self.table["image"].isin(usable["image"])], "not readable")
                self._check_table(usable)
            self._table = usable
            self._rows = usable.groupby(["site", "split"], sort=False).indices
        return self._rows


def _attribute(setting: str) -> str:
    return "site_names" if setting == "sites" else setting


def _check_sites(sites: int | list[str]) -> None:
    if not sites or (isinstance(sites, int) and sites < 1):
        raise InputError(f"sites={sites} is not a positive number, nor a list of names")
    if isinstance(sites, int) and sites > MOST_SITES:
        raise InputError(f"sites={sites} is more than {MOST_SITES}, the most that can be simulated")
    if isinstance(sites, list):
        check_site_names(sites, "sites")
        if len(set(sites)) < len(sites):
            raise InputError(f"a name stands twice in sites={sites}")
