"""SiteValidation: validates and tests each site by itself, with any module."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden
from typing_extensions import override

from lit_dist.callbacks.site_log import SiteFound, SiteLog, exact
from lit_dist.models.metrics import mean_name, pool_named
from lit_dist.models.site_reports import SiteReported
from lit_dist.utils.lightning_internals import judges_in_turn
from lit_dist.utils.method_patch import MethodPatch
from lit_dist.utils.one_lightning import check_package
from lit_dist.visits.joint_loader import site_of_each


class SiteValidation(Callback):
    """Lets a validation, or a test, with a dict of loaders by site be one of each site, and of all of them.

    What the module logs as ``val_loss`` becomes ``val_loss/<site>``, and ``val_loss`` of all sites, the mean weighted
    by their numbers of records; Lightning would call it ``val_loss/dataloader_idx_0``. Of a torchmetric, ``val_acc``
    is that of all records where its states add up, and ``val_mean_acc`` the weighted mean of the sites'. The module
    needs no ``dataloader_idx``; its ``on_validation_epoch_start`` and ``on_validation_epoch_end`` are called for each
    site. Our own modules, which report by site themselves, are left alone, as are loaders that are no dict.

    Every transfer callback is one; a run without transfers, such as that of pooled records, gets one to compare with.
    """

    at_site = False  # in a federation: what is known of all sites is the server's to say
    takes_part = False  # a transfer's settings are hashed by themselves

    _steps: tuple[MethodPatch, ...] = ()
    _end: MethodPatch | None = None
    _log: SiteLog | None = None
    _logged: Collection[str] | None = None

    @property
    def logged(self) -> Collection[str] | None:
        """The names that the last validation by site has logged, also one that is a sanity check; None before it."""
        return self._logged

    # -- before ------------------------------------------------------------------------------------------------------

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_package([trainer, pl_module])  # before Lightning looks for a parent that the other package's have not
        self._leave()
        self._logged = None
        if not isinstance(pl_module, SiteReported):
            self._steps = tuple(
                MethodPatch(pl_module, hook, _with_loader(getattr(pl_module, hook), least))
                for stage in ("validation", "test")
                for hook, least in ((f"{stage}_step", 1), (f"on_{stage}_batch_start", 2), (f"on_{stage}_batch_end", 3))
                if is_overridden(hook, pl_module) and not _takes_loader(getattr(pl_module, hook))
            )

    def _leave(self) -> None:
        self._end_judging()
        for patch in self._steps:
            patch.lift()
        self._steps = ()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._leave()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave()

    # -- a validation or a test ----------------------------------------------------------------------------------------

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, "validation", trainer.val_dataloaders)

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, "test", trainer.test_dataloaders)

    @override
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._come_to(pl_module, batch, dataloader_idx)

    @override
    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._come_to(pl_module, batch, dataloader_idx)

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int, **__: int
    ) -> None:
        if self._log is not None:
            self._log.take_output(outputs)

    @override
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int, **__: int
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_judging()

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_judging()

    # -- by site -------------------------------------------------------------------------------------------------------

    def _begin(self, trainer: Trainer, module: LightningModule, stage: str, loaders: Any) -> None:
        self._end_judging()
        if not isinstance(loaders, Mapping) or isinstance(module, SiteReported) or not judges_in_turn(trainer):
            return
        self._stage, self._trainer = stage, trainer
        self._of_loader = site_of_each(loaders)
        self._found: dict[str, SiteFound] = {}
        self._site: str | None = None
        self._log = SiteLog(module, "val" if stage == "validation" else "test", trainer.world_size > 1, loaders)
        self._end = MethodPatch(module, f"on_{stage}_epoch_end", lambda: self._end_all(module))
        self._log.open()

    def _come_to(self, module: LightningModule, batch: Any, loader: int) -> None:
        if self._log is None:
            return
        site = self._of_loader[loader]
        if site != self._site:
            if self._site is not None:
                self._end_site()
                getattr(module, f"on_{self._stage}_epoch_start")()
            self._site = site
            self._log.begin(site)
        self._log.count(batch)

    def _end_site(self) -> None:
        """Leave a site as a validation of its own would be left, whose values the module finds with the trainer."""
        assert self._log is not None
        assert self._end is not None
        assert self._site is not None
        shown = self._trainer.callback_metrics
        before = dict(shown)
        shown.update({name: torch.tensor(value) for name, value in self._log.values().items()})
        self._end.original()
        shown.clear()
        shown.update(before)
        self._found[self._site] = self._log.end()

    def _end_all(self, module: LightningModule) -> None:
        """Give Lightning what was found, at the place where the module would."""
        assert self._log is not None
        if self._site is not None:
            self._end_site()
        self._log.close()
        found = {site: each for site, each in self._found.items() if each.size}
        whole = pooled(found, self.at_site)
        by_site = {f"{name}/{site}": value for site, each in found.items() for name, value in each.values.items()}
        self._logged = [*by_site, *whole]
        options = self._log.options
        options |= {f"{name}/{site}": {**of, "prog_bar": False} for name, of in options.items() for site in found}
        for name, value in {**by_site, **whole}.items():
            own = options.get(name, {})
            # The values are those of all processes already; sync_dist only tells Lightning so.
            module.log(name, value, sync_dist=not own.get("rank_zero_only"), batch_size=1, **own)

    def _end_judging(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._end is not None:
            self._end.lift()
            self._end = None


def pooled(found: Mapping[str, SiteFound], at_site: bool = False) -> dict[str, float]:
    """What is known of all sites' records from what was found at each.

    Args:
        found: By site.
        at_site: Whether it is for a server to pool: then what does not follow from the sites' values is left out.
    """
    each = list(found.values())
    if not each:
        return {}
    means = dict.fromkeys(name for one in each for name in one.means)
    named = [{mean_name(n) if n in means else n: value for n, value in one.values.items()} for one in each]
    values = pool_named(named, [one.size for one in each])
    for name in means if not at_site else ():
        if all(name in one.metrics for one in each):
            whole = exact([one.metrics[name] for one in each])
            values |= {} if whole is None else {name: whole}
    return values


def _takes_loader(hook: Any) -> bool:
    """Whether a hook takes ``dataloader_idx``, and does without where there is one loader; or takes an iterator."""
    given = inspect.signature(hook).parameters
    if "dataloader_idx" in given:
        return given["dataloader_idx"].default is not inspect.Parameter.empty
    return "dataloader_iter" in given or any(each.kind is each.VAR_POSITIONAL for each in given.values())


def _with_loader(hook: Any, least: int) -> Any:
    """A hook that takes ``dataloader_idx`` for one that does not, and gives it as many arguments as it takes."""
    given = inspect.signature(hook).parameters.values()
    number = max(least, sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in given))
    if least == 3:
        return lambda outputs, batch, batch_idx, dataloader_idx=0: hook(
            *(outputs, batch, batch_idx, dataloader_idx)[:number]
        )
    return lambda batch, batch_idx, dataloader_idx=0: hook(*(batch, batch_idx, dataloader_idx)[:number])
