"""SiteDataModule: the loaders of each site's records, and the table of sites that a fit begins with."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lit_dist.checkpoints.run_folder import SIGNATURE, SPLITS, run_folder
from lit_dist.datamodules.sampler import VisitSampler
from lit_dist.datamodules.site_records import SiteRecords
from lit_dist.datamodules.site_table import print_sites, say_absent_classes
from lit_dist.datamodules.splits import write_splits
from lit_dist.models.monitored import check_monitors
from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.child_processes import most_processes
from lit_dist.utils.errors import InputError
from lit_dist.utils.one_lightning import warn_of_other_package
from lit_dist.visits.seeding import run_seed
from lit_dist.visits.site_loader import SiteLoader

Loader = DataLoader[Any]


class SiteDataModule(SiteRecords):
    """Records of several institutions, each with its own training, validation and test patients.

    ``train_dataloader`` gives one loader a site, for a transfer callback to draw from.

    A kind of data implements ``read_records``, which says what records there are, and ``dataset``, which gives those of
    some rows. Where the table has a column ``site`` the sites are real; otherwise patients are dealt out to simulated
    ones.

    Args:
        *args: Those of ``SiteRecords``.
        batch_size: The number of records in a batch; a site that has fewer gives them in one.
        num_workers: The number of worker processes of a loader. Results do not depend on it.
        persistent_workers: Whether a site keeps its worker processes while others train; for few sites only.
        pin_memory: Whether batches are put into page-locked memory, which speeds the copy to a GPU up.
        **kwargs: Those of ``SiteRecords``.
    """

    def __init__(
        self,
        *args: Any,
        batch_size: int = 32,
        num_workers: int = 0,
        persistent_workers: bool = False,
        pin_memory: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        warn_of_other_package()
        most = most_processes()
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} is not a positive number")
        if not 0 <= num_workers <= most:
            raise InputError(f"num_workers={num_workers} is not a number from 0 to {most}, the most for this machine")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.persistent_workers = persistent_workers
        self.pin_memory = pin_memory
        self._shown = False

    @abstractmethod
    def dataset(self, sites: Sequence[str], split: str) -> Dataset[Any]:
        """The records of some sites and one of the splits ``train``, ``val`` and ``test``, in the order of ``rows_of``.

        It is indexed by a record's place in it, or, in training, by a ``Draw``: that place, and a seed of its own.
        """

    # -- Lightning's hooks -------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        self._open()
        trainer = self.trainer
        if stage == "fit":
            say_absent_classes(self.table, self.only_site, self.learning_task)
        if stage != "fit" or trainer is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.check_monitors(trainer)
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            write_splits(self.table, folder / SPLITS)
            with replacing(folder / SIGNATURE) as file:
                file.write(json.dumps(self.signature(), indent=1, ensure_ascii=False).encode())
            if not self._shown:  # a site of a federation comes here at every visit
                print_sites(self.table, self.sites, self.learning_task, left_out=self.left_out_of)
                self._shown = True

    @override
    def train_dataloader(self) -> dict[str, Loader] | SiteLoader:
        """One loader a site, by name; the one of the pool or of the only site comes in a ``SiteLoader``."""
        if self.centralized:
            return SiteLoader({"central": self._train_loader(self.training_sites)})
        if self.only_site is not None:
            return SiteLoader({self.only_site: self._train_loader([self.only_site])})
        return {site: self._train_loader([site]) for site in self.training_sites}

    @override
    def val_dataloader(self) -> dict[str, Loader]:
        if self.trainer is not None and self.trainer.state.fn == "fit" and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.check_monitors(self.trainer)  # with the learning-rate schedules, which setup comes too early for
        return self._loaders("val", self._validated)

    @override
    def test_dataloader(self) -> dict[str, Loader]:
        return self._loaders("test", self.sites)

    predict_dataloader = test_dataloader

    def training_records(self, site: str) -> Loader | None:
        """A site's training records in their order and without augmentation, whoever trains on them; None if none."""
        return self._loaders("train", [site]).get(site)

    @override
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, dict):
            raise InputError(
                f"a batch has records of several sites ({', '.join(map(str, batch))}); add CyclicalWeightTransfer or"
                " another callback that visits one at a time, or set centralized=true or only_site"
            )
        return batch

    # -- what can be learnt and judged ---------------------------------------------------------------------------------

    @property
    def _validated(self) -> list[str]:
        """The sites whose validation images a fit looks at."""
        return [self.only_site] if self.only_site else self.training_sites

    def check_monitors(self, trainer: Trainer) -> None:
        """Raise ``InputError`` if a fit is steered by a metric that means nothing, see ``lit_dist.models.monitored``.

        A site of a federation is not asked: it does not know the others' images.
        """
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if len(self._validated) == 1 and any(hasattr(callback, "itinerary") for callback in callbacks):
            return
        labels = self.table.loc[self.table["split"] == "val"].groupby("site")["label"].agg(list).to_dict()
        check_monitors(trainer, {site: labels.get(site, []) for site in self._validated}, self.learning_task)

    # -- loaders -----------------------------------------------------------------------------------------------------

    def _train_loader(self, sites: Sequence[str]) -> Loader:
        rows = self.rows_of(sites, "train")
        if self.batch_size < self.learning_task.least_batch:
            raise InputError(
                f"batch_size={self.batch_size}: the loss of task={self.learning_task.name} compares the records of a"
                " batch with each other, so one record teaches nothing; take as large a batch as there is memory for"
            )
        sampler = VisitSampler(len(rows), run_seed())  # of several processes each has its own part
        batch_size = max(1, min(self.batch_size, len(sampler)))
        return DataLoader(
            self.dataset(sites, "train"),
            batch_size=batch_size,
            sampler=sampler,
            # Batch normalisation cannot learn from a single image, so one that is left over waits for another pass.
            drop_last=len(sampler) % batch_size == 1,
            persistent_workers=self.persistent_workers and self.num_workers > 0,
            **self._loading(),
        )

    def _loaders(self, split: str, sites: Sequence[str]) -> dict[str, Loader]:
        return {
            site: DataLoader(self.dataset([site], split), batch_size=self.batch_size, **self._loading())
            for site in sites
            if len(self.rows_of([site], split))
        }

    def _loading(self) -> dict[str, Any]:
        """What all loaders are given."""
        return {"num_workers": self.num_workers, "pin_memory": self.pin_memory}
