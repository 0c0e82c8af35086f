"""SiteEvaluation in a federation: at the server, from what each site says of the model's performance there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

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
                patches.enter_context(patched(each, values=_values(each.metric, validate)))
        yield


def _values(metric: str, validate: Callable[[], Mapping[str, float]]) -> Callable[..., dict[str, float]]:
    begin = f"val_{metric}/"
    return lambda *_: {name.removeprefix(begin): value for name, value in validate().items() if name.startswith(begin)}


def _check(evaluation: SiteEvaluation, trainer: Trainer, transfer: WeightTransfer, sites: list[str]) -> None:
    if evaluation.split != "val":
        raise InputError("SiteEvaluation looks at validation images in a federation: set split=val")
    itinerary = transfer.itinerary(sites)
    visits = range((trainer.max_epochs or 0) * len(sites))
    if any(itinerary.site(visit) == itinerary.site(visit + 1) for visit in visits) and len(itinerary.sites) > 1:
        raise InputError(
            "the order comes to a site twice running, and no SiteEvaluation can be made between two visits there; set"
            " order to no_repeat or fixed, or leave SiteEvaluation out"
        )
