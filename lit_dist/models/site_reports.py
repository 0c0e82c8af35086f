"""What a module's validation or test has found, by site and over all of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from lit_dist.models.metrics import POOLED, RegressionReport, SiteReport, pool, print_reports, shown
from lit_dist.utils.one_lightning import warn_of_other_package


class SiteReports:
    """Collects outputs and labels through an evaluation, and logs how well they agree.

    Where the loaders are a dict by site, each value is logged as ``<stage>_<metric>/<site>``, and as
    ``<stage>_<metric>`` over all sites' images.

    Args:
        kind: What judges the outputs of one site.
    """

    def __init__(self, kind: type[SiteReport] | type[RegressionReport] = SiteReport) -> None:
        self._kind = kind
        self._reports: dict[str, SiteReport | RegressionReport] = {}

    def collect(self, outputs: Tensor, labels: Tensor, loaders: Any, dataloader_idx: int) -> None:
        """Add a batch of one of the trainer's loaders; outputs and labels are as the report takes them."""
        names = [""]  # all sites together
        if isinstance(loaders, Mapping):
            names.append("/" + list(loaders)[dataloader_idx])
        for name in names:
            if name not in self._reports:
                self._reports[name] = self._kind().to(outputs.device)
            self._reports[name].update(outputs, labels)

    def log(self, module: pl.LightningModule, stage: str) -> None:
        """Log the values, and begin anew; in a fit one line is printed, else a table."""
        reports = {name: report.compute() for name, report in self._reports.items()}
        self._pool(reports)
        sizes = {_row(name): report.size for name, report in self._reports.items()}
        self._reports.clear()
        for name, values in reports.items():
            # The values are those of all processes already; sync_dist only tells Lightning so.
            module.log_dict({f"{stage}_{metric}{name}": value for metric, value in values.items()}, sync_dist=True)
        trainer = module.trainer
        if trainer.state.fn != "fit":
            if trainer.is_global_zero:
                print_reports({_row(name): values for name, values in reports.items()}, f"{stage} images", sizes)
        elif not trainer.sanity_checking and "" in reports:
            line = ", ".join(
                f"{metric.replace('_', ' ')} {shown(metric, value.item())}" for metric, value in reports[""].items()
            )
            module.print(f"After epoch {trainer.current_epoch + 1}, {stage} images of all sites: {line}")

    def _pool(self, values: dict[str, dict[str, Tensor]]) -> None:
        """Make those of all sites that can be made of each site's so, to the last bit as a federation has to."""
        sites = [name for name in values if name]
        sizes = [self._reports[site].size for site in sites]
        for metric in set(POOLED) & values.get("", {}).keys() if sites else ():
            pooled = pool([values[site][metric].item() for site in sites], sizes)
            values[""][metric] = torch.full_like(values[""][metric], pooled)


def _row(name: str) -> str:
    return name.removeprefix("/") or "all sites"


class SiteReported(pl.LightningModule, ABC):
    """A module of images that is validated and tested by ``SiteReports``, which it makes as ``reports``."""

    reports: SiteReports

    def __init__(self) -> None:
        super().__init__()
        warn_of_other_package()

    @abstractmethod
    def reported(self, images: Tensor) -> Tensor:
        """What a report takes, of a batch of images."""

    def _collect(self, batch: Any, loaders: Any, dataloader_idx: int) -> None:
        images, labels = batch
        self.reports.collect(self.reported(images), labels, loaders, dataloader_idx)

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
