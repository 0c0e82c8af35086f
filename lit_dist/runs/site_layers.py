"""Which batch normalisation a trained model predicts with: the run's, a site's own, or one of the images at hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from lit_dist.callbacks.remedies.local_batch_norm import LocalBatchNorm
from lit_dist.callbacks.site_statistics import SiteStatistics
from lit_dist.models.norm_statistics import estimate, exchanged, in_place, norm_tensors, norms_of
from lit_dist.runs.trained import TrainedRun
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_errors import nearest

IMAGES = 64
"""From how many images statistics are estimated, unless the run says another number."""
_FEW = 32

Images = Callable[[int], Sequence[Tensor]]
"""Gives batches of so many of the images at hand, prepared, or of all where there are fewer."""


@contextmanager
def site_layers(run: TrainedRun, site: str | None, estimated: bool, images: Images) -> Iterator[str]:
    """Let a run's model have the batch normalisation in the block that it is to predict with.

    Args:
        run: The run.
        site: The site of it whose images are predicted; None if they are of no such site.
        estimated: Whether the statistics are estimated from the images at hand.
        images: Gives these.

    Yields:
        Whose statistics the model has, for people; empty where the run has one set of them for all sites.

    Raises:
        InputError: If they cannot be those, or the run has some of each site and neither way is chosen.
    """
    check_choice(run, site, estimated)
    with ExitStack() as stack:
        if site is not None:
            yield _enter_site(run, site, stack)
        elif estimated:
            yield _enter_estimated(run, images, stack)
        else:
            yield ""


def check_choice(run: TrainedRun, site: str | None, estimated: bool) -> None:
    """Raise ``InputError`` if a run has no statistics of a site or its layers, or some that one has to choose from."""
    norms, by_site = bool(norm_tensors(run.module, affine=True)), _by_site(run)
    if site is not None and estimated:
        raise InputError("--site takes the statistics that the run has of a site, and --statistics estimate makes new"
                         " ones: give one of them")  # fmt: skip
    if estimated and not norms_of(run.module):
        raise InputError(
            f"{type(run.module).__name__} has no batch normalisation with running statistics, so there is nothing to"
            " estimate: leave --statistics out"
        )
    if site is not None and by_site is None:
        raise InputError("this run has one model for all sites, with nothing of a site's own: leave --site out")
    if by_site is not None and norms and site is None and not estimated:
        raise InputError(
            f"{type(by_site).__name__} gave each site of this run statistics of batch normalisation of its own, so say"
            f" whose images these are: --site NAME for one of {_named(run)}, or --statistics estimate for a new"
            " hospital, whose statistics are then estimated from these images"
        )


def _by_site(run: TrainedRun) -> SiteStatistics | None:
    """The callback by which each site has statistics of its own."""
    by_site = run.statistics
    return by_site if by_site is not None and by_site.images and norm_tensors(run.module, affine=True) else None


def _known(run: TrainedRun) -> list[str]:
    """The names of the run's sites, as far as they are known here."""
    kept = run.statistics.kept_sites if isinstance(run.statistics, LocalBatchNorm) else []
    return list(dict.fromkeys([*run.sites, *kept]))


def _named(run: TrainedRun) -> str:
    return ", ".join(_known(run)) or "its sites"


def _enter_site(run: TrainedRun, site: str, stack: ExitStack) -> str:
    by_site = run.statistics
    known = False
    if _known(run) and site not in _known(run):
        raise InputError(f"this run has no site {site!r}; its sites are {_named(run)}{nearest(site, _known(run))}")
    if isinstance(by_site, LocalBatchNorm):
        values, known = by_site.of_site(site)
        stack.enter_context(exchanged(norm_tensors(run.module, affine=True), values))
    if known:
        return f"batch normalisation of site {site}"
    records = _training_records(run, site)
    assert by_site is not None
    batches = [batch[0] for batch in by_site.sampled(records, site)]
    count = _estimate(run, batches, stack)
    return f"batch normalisation of site {site}, estimated from {count} of its training images"


def _training_records(run: TrainedRun, site: str) -> Any:
    data: Any = run.data
    try:
        data.prepare_data()
        data.setup("predict")
        records = data.training_records(site)
    except InputError as error:
        raise InputError(
            f"the statistics of site {site!r} are estimated from its training images, which are not here ({error}): use"
            " the model where they are, or take --statistics estimate"
        ) from None
    if records is None:
        raise InputError(f"this run has nothing of a site {site!r}; its sites are {_named(run)}")
    return records


def _enter_estimated(run: TrainedRun, images: Images, stack: ExitStack) -> str:
    by_site = run.statistics
    wanted = by_site.images if by_site is not None and by_site.images else IMAGES
    if isinstance(by_site, LocalBatchNorm):
        values, _ = by_site.of_site("")
        stack.enter_context(exchanged(norm_tensors(run.module, affine=True), values))
    count = _estimate(run, images(wanted), stack)
    few = f", which are few: {_FEW} or more are better" if count < _FEW else ""
    return f"batch normalisation estimated from {count} of these images{few}"


def _estimate(run: TrainedRun, batches: Sequence[Tensor], stack: ExitStack) -> int:
    count = sum(map(len, batches))
    if count < 2:
        raise InputError(f"statistics of batch normalisation need 2 images at least, and {count} can be read here")
    norms = norms_of(run.module)
    device = run.trainer.strategy.root_device
    found = estimate(norms, run.predict, batches)
    stack.enter_context(in_place(norms, [each.to(device) for each in found]))
    return count


def spread(count: int, wanted: int) -> list[int]:
    """The places of so many records of a number of them, all over it.

    Example:
        >>> spread(10, 3), spread(2, 3)
        ([0, 4, 9], [0, 1])
    """
    return torch.linspace(0, count - 1, min(count, wanted)).round().long().tolist()
