"""What a module's validation or test has found, by site and over all of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from lit_dist.models.metrics import SiteReport, pool_measures, print_reports, shown
from lit_dist.tasks.task import Task
from lit_dist.utils.one_lightning import warn_of_other_package
from lit_dist.visits.joint_loader import site_of_each


class SiteReports:
    """Collects outputs and targets through an evaluation, and logs how well they agree.

    Where the loaders are a dict by site, each measure is logged as ``<stage>_<measure>/<site>``, and as
    ``<stage>_<measure>`` over all sites' records; of one that does not follow from the sites', such as an AUROC, the
    weighted mean of the sites' is logged, too, as ``<stage>_mean_<measure>``.

    Args:
        task: What judges them.

    Attributes:
        sums: Of the last evaluation, ``Task.sums`` of each site.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._reports: dict[str, SiteReport] = {}
        self.sums: dict[str, Tensor] = {}

    def collect(self, outputs: Tensor, targets: Tensor, loaders: Any, dataloader_idx: int) -> None:
        """Add a batch of one of the trainer's loaders; outputs and targets are as the task takes them."""
        names = [""]  # all sites together
        if isinstance(loaders, Mapping):
            names.append("/" + site_of_each(loaders)[dataloader_idx])
        for name in names:
            if name not in self._reports:
                self._reports[name] = SiteReport(self._task).to(outputs.device)
            self._reports[name].update(outputs, targets)

    def log(self, module: pl.LightningModule, stage: str) -> None:
        """Log the values, and begin anew; in a fit one line is printed, else a table."""
        reports = {name: report.compute() for name, report in self._reports.items()}
        sizes = {_row(name): report.size for name, report in self._reports.items()}
        self.sums = {name.removeprefix("/"): report.sums for name, report in self._reports.items() if name}
        self._pool(reports)
        self._reports.clear()
        for name, values in reports.items():
            # The values are those of all processes already; sync_dist only tells Lightning so.
            module.log_dict({f"{stage}_{metric}{name}": value for metric, value in values.items()}, sync_dist=True)
        trainer = module.trainer
        if trainer.state.fn != "fit":
            if trainer.is_global_zero:
                named = {_row(name): values for name, values in reports.items()}
                print_reports(self._task, named, f"{stage} records", sizes)
        elif not trainer.sanity_checking and "" in reports:
            line = ", ".join(
                f"{metric.replace('_', ' ')} {shown(reports[''][metric].item(), measure)}"
                for metric, measure in self._task.measures.items()
            )
            module.print(f"After epoch {trainer.current_epoch + 1}, {stage} records of all sites: {line}")

    def _pool(self, values: dict[str, dict[str, Tensor]]) -> None:
        """Make those of all sites that can be made of each site's so, to the last bit as a federation has to."""
        sites = [name for name in values if name]
        if not sites:
            return
        sizes = [self._reports[site].size for site in sites]
        each = [{metric: value.item() for metric, value in values[site].items()} for site in sites]
        like = values[""]["loss"]
        values[""] |= {
            metric: torch.full_like(like, value)
            for metric, value in pool_measures(self._task, each, sizes, [*self.sums.values()]).items()
        }


def _row(name: str) -> str:
    return name.removeprefix("/") or "all sites"


def reported_task(module: object) -> Task | None:
    """The task by which a module reports of each site; None of one that logs for itself."""
    return module.task if isinstance(module, SiteReported) else None


class SiteReported(pl.LightningModule, ABC):
    """A module for a task, whose batches are ``(inputs, targets)``, that is validated and tested by ``SiteReports``.

    Args:
        task: What is predicted, and how it is judged.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        warn_of_other_package()
        self.task = task
        self.reports = SiteReports(task)

    @abstractmethod
    def reported(self, inputs: Tensor) -> Tensor:
        """What a report takes, of a batch of inputs."""

    def _collect(self, batch: Any, loaders: Any, dataloader_idx: int) -> None:
        inputs, targets = batch
        self.reports.collect(self.reported(inputs), targets, loaders, dataloader_idx)

    @override
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._collect(batch, self.trainer.val_dataloaders, dataloader_idx)

    @override
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._collect(batch, self.trainer.test_dataloaders, dataloader_idx)

    @override
    def on_validation_epoch_end(self) -> None:
        self.reports.log(self, "val")

    @override
    def on_test_epoch_end(self) -> None:
        self.reports.log(self, "test")
