"""InstitutionDataModule: what every collection of images over several sites has in common."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lit_dist.checkpoints.run_folder import run_folder
from lit_dist.datamodules.collector import collector_paused
from lit_dist.datamodules.images.augmentation import Augmenter
from lit_dist.datamodules.images.copies import check_copies
from lit_dist.datamodules.images.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from lit_dist.datamodules.images.site_images import Pixels, SiteImages, as_batch, augmented, one_thread
from lit_dist.datamodules.partition import EqualPartition, Partition
from lit_dist.datamodules.sampler import VisitSampler
from lit_dist.datamodules.site_table import print_sites, shown_names
from lit_dist.datamodules.splits import (
    CONTENT,
    NUMBER,
    SPLITS,
    assign_sites,
    assign_splits,
    check_splits,
    in_order,
    number_patients,
    read_splits,
    write_splits,
)
from lit_dist.models.monitored import check_monitors
from lit_dist.utils.child_processes import most_processes
from lit_dist.utils.errors import InputError
from lit_dist.utils.one_lightning import warn_of_other_package
from lit_dist.visits.seeding import run_seed
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.site_names import check_site_names

MOST_SITES = 100_000

Loader = DataLoader[tuple[Tensor, int]]


class InstitutionDataModule(LightningDataModule, ABC):
    """Images of several institutions, each with its own training, validation and test patients.

    ``train_dataloader`` gives one loader a site, for a transfer callback to draw from. A batch leaves a loader as
    uint8 images and int64 labels; on the device the images become float, normalised, (images, 3, height, width), and
    are augmented there first where ``DeviceAugmentation`` is to.

    A collection implements ``read_images``, which says what images there are, and ``pixels``, which gives them decoded.
    Where the table has a column ``site`` the sites are real; otherwise patients are dealt out to simulated ones.

    Args:
        sites: The number of simulated sites, or the names of the sites. Of real sites, those to keep; a number keeps
            all.
        partition: How patients are dealt out to simulated sites; equally by default.
        centralized: Whether to pool the training images of all sites into one: the baseline that has all data.
        only_site: Train and validate on this site alone: a single-institution model. It is tested on all sites.
        val_fraction: The share of each site's patients for validation.
        test_fraction: The share of each site's patients for the test.
        splits: A ``splits.csv`` of an earlier run; its sites and splits are used instead of drawn.
        split_seed: The only source of chance in partition and splits.
        batch_size: The number of images in a batch; a site that has fewer gives them in one.
        num_workers: The number of worker processes of a loader. Results do not depend on it.
        persistent_workers: Whether a site keeps its worker processes while others train; for few sites only.
        pin_memory: Whether batches are put into page-locked memory, which speeds the copy to a GPU up.
        augmentation: What is done to training images; None leaves them as they are.
        degrade: For sites with a poor camera, by how much its images are made smaller and large again, for example
            ``{"site-1": 4}``. It is done to the site's training and validation images; the test stays as it is, so that
            all heuristics are tested on the same images.
        mean: The mean of each colour that is subtracted, in the range 0 to 1.
        std: The standard deviation of each colour that is divided by, in the range 0 to 1.
        allow_one_class: Whether a site may have training images of one class only.

    Attributes:
        left_out_of: How many images of a site are not used, by its name ("" where sites are simulated) and the reason.

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
        batch_size: int = 32,
        num_workers: int = 0,
        persistent_workers: bool = False,
        pin_memory: bool = False,
        augmentation: Augmenter | None = None,
        degrade: dict[str, float] | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        allow_one_class: bool = False,
    ) -> None:
        super().__init__()
        warn_of_other_package()
        _check(sites, centralized, only_site, val_fraction, test_fraction)
        _check_numbers(split_seed, batch_size, num_workers, mean, std)
        self.site_names = [f"site-{n}" for n in range(1, sites + 1)] if isinstance(sites, int) else list(sites)
        self.all_sites = isinstance(sites, int)
        self.partition = partition or EqualPartition()
        self.centralized = centralized
        self.only_site = only_site
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.splits = Path(splits) if splits else None
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.persistent_workers = persistent_workers
        self.pin_memory = pin_memory
        self.augmentation = augmentation
        self.degrade = dict(degrade or {})
        self.normalise = Normalisation(mean, std)
        self.allow_one_class = allow_one_class
        self._table: pd.DataFrame | None = None
        self._pixels: tuple[Pixels, NDArray[np.int64]] | None = None
        self._shown = False
        self.left_out_of: Counter[tuple[str, str]] = Counter()

    # -- what a collection implements --------------------------------------------------------------------------------

    @abstractmethod
    def read_images(self) -> pd.DataFrame:
        """The images: columns ``image`` (a name), ``patient``, ``label`` (int64), and ``site`` where sites are real.

        A collection with a test set of its own marks it in a boolean column ``held_out``. Those images are the test;
        where sites are simulated they are dealt out to them equally.
        """

    @abstractmethod
    def pixels(self, table: pd.DataFrame) -> tuple[Pixels, NDArray[np.int64]]:
        """The decoded images of the table's rows: uint8 arrays, and the slot of each row in them."""

    def usable(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows whose images can be read; a collection that skips damaged ones narrows it."""
        return table

    def leave_out(self, rows: pd.DataFrame, reason: str) -> None:
        """Count images that are not used.

        Args:
            rows: A row each, with the column ``site`` where sites are real.
            reason: Why they are left out, as it stands after their number.
        """
        sites = rows["site"].tolist() if "site" in rows else [""] * len(rows)
        self.left_out_of.update((site, reason) for site in sites)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    # -- who is where ------------------------------------------------------------------------------------------------

    @property
    def table(self) -> pd.DataFrame:
        """All images: columns ``image, patient, site, split, label`` and more, one row an image."""
        if self._table is None:
            with collector_paused():
                self._table = self._assign(self.read_images())
        return self._table

    @property
    def sites(self) -> list[str]:
        """The names of the sites."""
        present = set(self.table["site"].unique())
        return [site for site in self.site_names if site in present]

    def mark_copies(self, images: pd.DataFrame) -> pd.DataFrame:
        """Add the column ``CONTENT``, by which images are copies of each other, where a collection can tell."""
        return images

    def settle_copies(self, images: pd.DataFrame) -> pd.DataFrame:
        """The images without those copies that are not to be used."""
        return images

    def _assign(self, images: pd.DataFrame) -> pd.DataFrame:
        images = self.mark_copies(images)
        table = self._drawn(self.settle_copies(images)) if self.splits is None else self._read_splits(images)
        wanted = table["site"].isin(self.site_names)
        self.leave_out(table[~wanted], "of other sites")
        chosen = table[wanted].reset_index(drop=True)
        check_copies(chosen)
        if self.splits is None:
            check_splits(table.drop(columns=NUMBER) if CONTENT in table else table, "the table of images")
        self._check_table(chosen)
        return chosen.drop(columns=[NUMBER, CONTENT], errors="ignore")

    def _drawn(self, images: pd.DataFrame) -> pd.DataFrame:
        numbered = number_patients(images)
        table = self._with_sites(numbered)
        if len(table) < len(images):
            self.leave_out(images[~images["image"].isin(table["image"])], "not dealt out to a site (partition)")
        return assign_splits(table, self.val_fraction, self.test_fraction, self.split_seed)

    def _read_splits(self, images: pd.DataFrame) -> pd.DataFrame:
        assert self.splits is not None
        table = read_splits(self.splits, images)
        if len(table) < len(images):
            self.leave_out(images[~images["image"].isin(table["image"])], f"not in {self.splits.name}")
        if self.all_sites:
            self.site_names = in_order(table["site"].unique(), images.get("site", pd.Series()).unique())
        return self.settle_copies(table)

    def _with_sites(self, images: pd.DataFrame) -> pd.DataFrame:
        if "site" not in images:
            return assign_sites(images, self.site_names, self.partition, self.split_seed)
        if self.all_sites:
            self.site_names = images["site"].unique().tolist()
        return images

    def _check_table(self, table: pd.DataFrame) -> None:
        unknown = sorted(self.degrade.keys() - set(self.site_names))
        if unknown or not all(1 <= factor < math.inf for factor in self.degrade.values()):
            raise InputError(f"degrade={self.degrade} gives a factor from 1 for some of {', '.join(self.site_names)}")
        check_site_names(self.site_names, "the table of images")
        train = table[table["split"] == "train"]
        rows_of = train.groupby("site", sort=False).indices
        for site in [*self.site_names, *([self.only_site] if self.only_site else [])]:
            labels = train["label"].iloc[rows_of.get(site, [])]
            if labels.empty:
                known = ", ".join(sorted(train["site"].unique())) or "none"
                raise InputError(f"site {site!r} has no training images; the data has the sites {known}")
            if labels.nunique() < 2 and not self.allow_one_class:
                raise InputError(
                    f"site {site!r} has {len(labels)} training images, all of the class"
                    f" {self.class_names[labels.iloc[0]]!r}; leave the site out, or set allow_one_class=true"
                )

    # -- Lightning's hooks -------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        self._open()
        trainer = self.trainer
        if stage == "fit":
            self._say_absent_classes()
        if stage != "fit" or trainer is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.check_monitors(trainer)
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            write_splits(self.table, folder / "splits.csv")
            if not self._shown:  # a site of a federation comes here at every visit
                print_sites(self.table, self.sites, self.class_names, left_out=self.left_out_of)
                self._shown = True

    @override
    def train_dataloader(self) -> dict[str, Loader] | SiteLoader:
        """One loader a site, by name; the one of the pool or of the only site comes in a ``SiteLoader``."""
        if self.centralized:
            return SiteLoader({"central": self._train_loader(self.sites)})
        if self.only_site is not None:
            return SiteLoader({self.only_site: self._train_loader([self.only_site])})
        return {site: self._train_loader([site]) for site in self.sites}

    @override
    def val_dataloader(self) -> dict[str, Loader]:
        if self.trainer is not None and self.trainer.state.fn == "fit" and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.check_monitors(self.trainer)  # with the learning-rate schedules, which setup comes too early for
        return self._loaders("val", self._validated)

    @override
    def test_dataloader(self) -> dict[str, Loader]:
        return self._loaders("test", self.sites)

    @override
    def predict_dataloader(self) -> dict[str, Loader]:
        return self._loaders("test", self.sites)

    @override
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment a batch's uint8 images, if that was left to the device, and make them float and normalised."""
        if isinstance(batch, dict):
            raise InputError(
                f"a batch has images of several sites ({', '.join(map(str, batch))}); add CyclicalWeightTransfer or"
                " another callback that visits one at a time, or set centralized=true or only_site"
            )
        images, labels = augmented(batch, self.augmentation)
        images = self.normalise(images)
        trainer = self.trainer
        if trainer is not None:  # for a network of half or double precision; Lightning has converted what came before
            images = trainer.precision_plugin.convert_input(images)
        return images, labels

    # -- what can be learnt and judged ---------------------------------------------------------------------------------

    @property
    def _validated(self) -> list[str]:
        """The sites whose validation images a fit looks at."""
        return [self.only_site] if self.only_site else self.sites

    def check_monitors(self, trainer: Trainer) -> None:
        """Refuse that a fit is steered by a metric that means nothing, see ``lit_dist.models.monitored``.

        A site of a federation is not asked: it does not know the others' images.

        Raises:
            InputError: If it is.
        """
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if len(self._validated) == 1 and any(hasattr(callback, "itinerary") for callback in callbacks):
            return
        labels = self.table.loc[self.table["split"] == "val"].groupby("site")["label"].agg(list).to_dict()
        check_monitors(trainer, {site: labels.get(site, []) for site in self._validated}, self.class_names)

    def _say_absent_classes(self) -> None:
        trained = self.table["site"].eq(self.only_site) if self.only_site else self.table["split"].notna()
        for split, rows in (("train", self.table[trained]), ("test", self.table)):
            present = set(rows.loc[rows["split"] == split, "label"])
            absent = [name for label, name in enumerate(self.class_names) if label not in present]
            if not absent or not present:
                continue
            which, names = f"{len(absent)} of {self.num_classes} classes", shown_names(absent)
            if split == "train":
                rank_zero_warn(
                    f"{which} have no training image ({names}), so that no image of them can be recognised; join"
                    " classes, or take those with more images (--data.classes, --data.task)"
                )
            else:
                rank_zero_info(f"{which} have no test image ({names}), so the test says nothing about them")

    # -- loaders -----------------------------------------------------------------------------------------------------

    def dataset(self, sites: Sequence[str], split: str) -> SiteImages:
        """The images of some sites and one of the splits ``train``, ``val`` and ``test``."""
        if split not in SPLITS:
            raise InputError(f"{split!r} is no split; they are {', '.join(SPLITS)}")
        pixels, slots = self._open()
        none = np.empty(0, np.int64)
        rows = np.sort(np.concatenate([none, *(self._rows.get((site, split), none) for site in sites)]))
        augmentation = self.augmentation if split == "train" else None
        table = self.table.iloc[rows].reset_index(drop=True)
        factors = None
        if self.degrade and split != "test":
            factors = np.asarray(table["site"].map(self.degrade).fillna(1.0), np.float64)
        return SiteImages(pixels, slots[rows], table, augmentation, factors)

    def _open(self) -> tuple[Pixels, NDArray[np.int64]]:
        if self._pixels is None:
            usable = self.usable(self.table)
            if len(usable) < len(self.table):
                self.leave_out(self.table[~self.table["image"].isin(usable["image"])], "not readable")
                self._check_table(usable)
            self._table = usable
            self._rows = usable.groupby(["site", "split"], sort=False).indices
            self._pixels = self.pixels(self._table)
        return self._pixels

    def _train_loader(self, sites: Sequence[str]) -> Loader:
        dataset = self.dataset(sites, "train")
        sampler = VisitSampler(len(dataset), run_seed())  # of several processes each has its own part
        batch_size = max(1, min(self.batch_size, len(sampler)))
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            # Batch normalisation cannot learn from a single image, so one that is left over waits for another pass.
            drop_last=len(sampler) % batch_size == 1,
            persistent_workers=self.persistent_workers and self.num_workers > 0,
            **self._loading(),
        )

    def _loaders(self, split: str, sites: Sequence[str]) -> dict[str, Loader]:
        datasets = {site: self.dataset([site], split) for site in sites}
        return {
            site: DataLoader(dataset, batch_size=self.batch_size, **self._loading())
            for site, dataset in datasets.items()
            if len(dataset)
        }

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "worker_init_fn": one_thread,
            "pin_memory": self.pin_memory,
            "collate_fn": as_batch,
        }


def _check(
    sites: int | list[str],
    centralized: bool,
    only_site: str | None,
    val_fraction: float,
    test_fraction: float,
) -> None:
    if not sites or (isinstance(sites, int) and sites < 1):
        raise InputError(f"sites={sites} is not a positive number, nor a list of names")
    if isinstance(sites, int) and sites > MOST_SITES:
        raise InputError(f"sites={sites} is more than {MOST_SITES}, the most that can be simulated")
    if isinstance(sites, list):
        check_site_names(sites, "sites")
    if isinstance(sites, list) and len(set(sites)) < len(sites):
        raise InputError(f"a name stands twice in sites={sites}")
    if centralized and only_site is not None:
        raise InputError("centralized pools all sites and only_site takes one; set one of them")
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise InputError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} leave no patients for training"
        )


def _check_numbers(
    split_seed: int, batch_size: int, num_workers: int, mean: Sequence[float], std: Sequence[float]
) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} is not a positive number")
    most = most_processes()
    if not 0 <= num_workers <= most:
        raise InputError(f"num_workers={num_workers} is not a number from 0 to {most}, the most for this machine")
    if split_seed < 0:
        raise InputError(f"split_seed={split_seed} is not a number from 0")
    if not (all(map(math.isfinite, mean)) and all(0 < each < math.inf for each in std)):
        raise InputError(f"mean={mean} and std={std} are not finite numbers, those of std above 0")
