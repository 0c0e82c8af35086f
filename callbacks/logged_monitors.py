"""Checks before the first step that a module's validation logs what a fit is steered by."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_dist.callbacks.site_judge import look
from lit_dist.callbacks.site_validation import SiteValidation, pooled
from lit_dist.models.monitored import monitors
from lit_dist.models.site_reports import SiteReported
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import judged_source

_OF_VALIDATION = re.compile(r"val(id(ation)?)?[_/]")


def check_logged(trainer: Trainer, module: LightningModule, validation: SiteValidation, sites: Sequence[str]) -> None:
    """Raise ``InputError`` if something monitors a value of a validation that the module does not log.

    Our own modules check that themselves. What a validation logs is known from a sanity check, or found by one batch of
    the first site's validation records.
    """
    if not isinstance(module, SiteReported) and trainer.limit_val_batches and _monitors(trainer, sites):
        names = validation.logged or _look(trainer, module, validation.at_site)
        if names:
            check_among(trainer, [*names, *trainer.callback_metrics], sites)


def check_among(trainer: Trainer, names: Collection[str], sites: Sequence[str]) -> None:
    """Raise ``InputError`` if something monitors a value of a validation whose name is not among those logged."""
    for who, name in _monitors(trainer, sites):
        if name not in names:
            by_site = [each.rpartition("/")[0] for each in names if each.rpartition("/")[2] in sites]
            kinds = [f"{each}/SITE" for each in dict.fromkeys(by_site)]
            known = [each for each in names if each.rpartition("/")[2] not in sites and _OF_VALIDATION.match(each)]
            how = "" if kinds else "; to have it by site, let val_dataloader give a dict of loaders by site"
            logged = ", ".join([*kinds, *known]) or "nothing"
            raise InputError(f"{who} monitors {name!r}, and the validation logs {logged}{how}")


def _monitors(trainer: Trainer, sites: Sequence[str]) -> list[tuple[str, str]]:
    return [(who, name) for who, name in monitors(trainer, sites) if _OF_VALIDATION.match(name)]


def _look(trainer: Trainer, module: LightningModule, at_site: bool) -> Collection[str]:
    """What a validation would log; nothing where that cannot be known beforehand."""
    loaders: Any = judged_source(trainer, "val")
    if isinstance(loaders, LightningDataModule | LightningModule):
        loaders = loaders.val_dataloader() if is_overridden("val_dataloader", loaders) else None
    if loaders is None or isinstance(loaders, list | tuple) or not is_overridden("validation_step", module):
        return ()
    by_site = loaders if isinstance(loaders, Mapping) else {"": loaders}
    site, loader = next(iter(by_site.items()), ("", None))
    try:
        found = look(trainer, module, site, loader, "val")
    except InputError:  # the validation itself will say it
        return ()
    if not site:
        return [*found.values]
    by_site_names = [f"{name}/{each}" for name in found.values for each in by_site]
    return [*by_site_names, *pooled({site: found}, at_site)]
