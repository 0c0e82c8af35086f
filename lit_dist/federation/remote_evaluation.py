"""SiteEvaluation in a federation: at the server, from what each site says of the model's performance there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from lightning.pytorch import Trainer

from lit_dist.callbacks import SiteEvaluation, WeightTransfer
from lit_dist.utils.errors import InputError
from lit_dist.utils.method_patch import patched


@contextmanager
def remote_evaluation(
    trainer: Trainer, transfer: WeightTransfer, sites: list[str], validate: Callable[[], Mapping[str, float]]
) -> Iterator[None]:
    """Let the ``SiteEvaluation`` of the server's trainer, if there is one, ask the sites in the block.

    One that asks for more than ``validate`` gives, the metrics of a validation on every site, is an ``InputError``.
    """
    with ExitStack() as patches:
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(each, SiteEvaluation) and each.every != "off":
                _check(each, trainer, transfer, sites)
                remote = patched(each, values=_values(each, sites, validate), check=lambda *_: None)
                patches.enter_context(remote)
        yield


def _values(
    evaluation: SiteEvaluation, sites: list[str], validate: Callable[[], Mapping[str, float]]
) -> Callable[..., dict[str, float]]:
    def values(*_: Any) -> dict[str, float]:
        found = validate()
        own = {site: _of_site(found, site) for site in sites}
        names = {name: site for site, each in own.items() for name in each}
        metric = evaluation.find(names) if names else ""
        return {site: each[metric] for site, each in own.items() if metric in each}

    return values


def _of_site(found: Mapping[str, float], site: str) -> dict[str, float]:
    end = f"/{site}"
    return {name.removesuffix(end): value for name, value in found.items() if name.endswith(end)}


def _check(evaluation: SiteEvaluation, trainer: Trainer, transfer: WeightTransfer, sites: list[str]) -> None:
    if evaluation.split != "val":
        raise InputError("SiteEvaluation looks at validation records in a federation: set split=val")
    itinerary = transfer.itinerary(sites)
    visits = range((trainer.max_epochs or 0) * len(sites))
    if any(itinerary.site(visit) == itinerary.site(visit + 1) for visit in visits) and len(itinerary.sites) > 1:
        raise InputError(
            "the order comes to a site twice running, and no SiteEvaluation can be made between two visits there; set"
            " order to no_repeat or fixed, or leave SiteEvaluation out"
        )
