"""SiteLoader: one training loader a site, drawn from one site at a time."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, IterableDataset
from typing_extensions import override

from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import ResumableLoader
from lit_dist.visits.epoch_plan import Stretch
from lit_dist.visits.joint_loader import JointLoader, as_loader, loaders_in
from lit_dist.visits.seeded_loader import SeededLoaders
from lit_dist.visits.seeding import ModuleGenerators, derive, pass_seed, seed_generators
from lit_dist.visits.site_names import check_site_names

MAX_PERSISTENT_SITES = 8
"""Up to so many sites may keep their worker processes while another site trains."""


class SiteLoader(ResumableLoader):
    """One loader a site, drawn from one at a time.

    Lightning's fit loop treats it as any ``CombinedLoader``: the loaders of this epoch's sites get the distributed
    sampler, the limits and the worker checks. A batch is what the site's own loader yields. A site's iterator, and with
    it its worker processes, lives only while batches are drawn from that site. A site may have several loaders, as a
    dict or list or a ``CombinedLoader``, which are drawn from at once (``JointLoader``).

    Alone, it draws from the site ``active``. A ``WeightTransfer`` callback sets ``plan``, which says for the coming
    epoch how many batches are drawn from which site, and with which seeds.

    Args:
        loaders: The sites' loaders by name.
        active: The site to draw from; the first one if None.

    Attributes:
        loaders: The sites' loaders by name.
        plan: Gives the stretches of the coming epoch.
        estimate: While set, gives the length instead of the plan, and the fit loop sees every site's loader.
        place: The device that trains, and the process's rank.

    Raises:
        InputError: If there is no site, a site has no batches, ``active`` is unknown, or more than
            ``MAX_PERSISTENT_SITES`` sites ask for persistent workers.

    Example:
        >>> loader = SiteLoader({"mgh": [0, 1], "ucsf": [2, 3, 4]})
        >>> len(loader), [batch for batch, _, _ in loader]
        (2, [0, 1])
        >>> loader.active = "ucsf"
        >>> len(loader), [batch for batch, _, _ in loader]
        (3, [2, 3, 4])
    """

    def __init__(self, loaders: Mapping[str, Iterable[Any]], active: str | None = None) -> None:
        _check(loaders)
        super().__init__(dict.fromkeys(loaders), mode="max_size_cycle")
        self.loaders: dict[str, Any] = {site: as_loader(loader) for site, loader in loaders.items()}
        self.plan: Callable[[], Sequence[Stretch]] = self._stay
        self.estimate: Callable[[], int] | None = None
        self.before_pass: Callable[[Stretch], None] | None = None  # may end the fit instead
        self.place = torch.device("cpu"), 0
        self.generators: ModuleGenerators | None = None  # that the module holds, seeded for each batch
        self._active = self.sites[0]
        if active is not None:
            self.active = active
        self._site_limits: dict[str, float] = {}
        self._closing = False
        self._epoch: list[Stretch] = []  # what is left of the epoch, the current stretch first
        self._pass: Iterator[Any] | None = None
        self._passes = 0  # begun in the current stretch
        self._pass_seed: int | None = None
        self._drawn_in_pass = 0
        self._seeded = SeededLoaders()
        self._left = 0.0  # batches to draw in the current stretch
        self._drawn_in_epoch = 0
        self._resume_at = 0
        self._skip = 0  # batches of the epoch to leave out before the next one

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of all sites."""
        return tuple(self.loaders)

    @property
    def active(self) -> str:
        """The site that the next batch comes from."""
        return (self._epoch or self.plan())[0].site

    @active.setter
    def active(self, site: str) -> None:
        if site not in self.loaders:
            raise InputError(f"there is no site {site!r}; the sites are {', '.join(self.sites)}")
        self._close()
        self._epoch = []
        self._active = site

    def batches(self, stretch: Stretch) -> float:
        """The number of batches of a stretch under Lightning's limits; infinite for a pass of unknown length."""
        length = sized_len(self.loaders[stretch.site])
        pass_ = math.inf if length is None else length
        limit = self._site_limits.get(stretch.site, math.inf)
        if stretch.batches is None:
            return min(pass_, limit)
        return min(stretch.batches, limit) if limit < pass_ else stretch.batches

    def follow(self, stretch: Callable[[str], Stretch]) -> None:
        """Draw each epoch from ``active`` as a function says, which is given its name."""
        self.plan = lambda: (stretch(self._active),)

    def release(self) -> None:
        """Go back to drawing from ``active`` alone, in the loaders' own order."""
        self.plan = self._stay
        self.estimate = self.before_pass = None
        self.generators = None  # else the module would be kept alive by its loader

    def _stay(self) -> Sequence[Stretch]:
        return (Stretch(self._active),)

    # -- what Lightning's fit loop asks for ------------------------------------------------------------------------

    @property
    def iterables(self) -> dict[str, Any]:
        """The sites' loaders by name."""
        return self.loaders

    @property
    def flattened(self) -> list[Any]:
        """The loaders of the coming epoch's sites: those that the fit loop needs to prepare."""
        return [loader for site in self._shown() for loader in self._of(site)]

    @flattened.setter
    def flattened(self, loaders: list[Any]) -> None:
        left = iter(loaders)
        for site in self._shown():
            own = [next(left) for _ in self._of(site)]
            if isinstance(self.loaders[site], JointLoader):
                self.loaders[site].flattened = own
            else:
                self.loaders[site] = own[0]

    def _of(self, site: str) -> list[Any]:
        return loaders_in(self.loaders[site])

    @property
    def limits(self) -> list[int | float] | None:
        """The greatest number of batches of each loader in ``flattened``."""
        shown = [site for site in self._shown() for _ in self._of(site)]
        return [self._site_limits.get(site, math.inf) for site in shown] if self._site_limits else None

    @limits.setter
    def limits(self, limits: int | float | list[int | float] | None) -> None:
        shown = [site for site in self._shown() for _ in self._of(site)]
        values = limits if isinstance(limits, list) else [math.inf if limits is None else limits] * len(shown)
        for site in self._shown():
            own = [limit for name, limit in zip(shown, values, strict=True) if name == site]
            shortest = getattr(self.loaders[site], "mode", "") == "min_size"
            self._site_limits[site] = min(own) if shortest else max(own)

    def _shown(self) -> list[str]:
        if self._closing or self.estimate is not None:
            return list(self.loaders)
        return list(dict.fromkeys(stretch.site for stretch in self.plan()))

    def __len__(self) -> int:
        if self.estimate is not None:
            return self.estimate()
        total = sum(self.batches(stretch) for stretch in self.plan())
        if total == math.inf:
            raise TypeError("a site's loader has no length")  # Lightning takes this as an unknown length
        return int(total)

    def __iter__(self) -> Self:
        self._enter(list(self.plan()))
        self._drawn_in_epoch = 0
        if self.generators is not None:
            self.generators.begin()
        self._skip, self._resume_at = self._resume_at, 0
        return self

    def __next__(self) -> tuple[Any, int, int]:
        skip, self._skip = self._skip, 0
        while self._epoch and skip >= self._left:  # a whole stretch needs none of its batches drawn
            skip -= int(self._left)
            self._drawn_in_epoch += int(self._left)
            self._enter(self._epoch[1:])
        resumed_at = self._epoch[0].site if self._epoch and skip else None
        for _ in range(skip):
            next(self)
        if resumed_at is not None:
            self._warn_of_another_loader(resumed_at)
        if not self._epoch:
            raise StopIteration
        batch = self._draw(self._epoch[0])
        index, self._drawn_in_epoch = self._drawn_in_epoch, self._drawn_in_epoch + 1
        self._left -= 1
        if self._left <= 0:
            self._enter(self._epoch[1:])
        return batch, index, 0

    def reset(self) -> None:
        """Forget the epoch and shut all worker processes down."""
        self._close()
        self._epoch = []
        self._seeded = SeededLoaders()
        self._closing = True
        super().reset()
        self._closing = False

    # The order of a pass is known from its seed, so the position is enough: a resumed epoch draws the batches of its
    # stretch before it again and drops them.
    @property
    @override
    def drawn(self) -> int:
        return self._drawn_in_epoch + self._skip if self._epoch else 0

    @override
    def resume_at(self, drawn: int) -> None:
        self._resume_at = drawn

    def _warn_of_another_loader(self, site: str) -> None:
        own = self._of(site)
        if not all(isinstance(each, DataLoader) and not isinstance(each.dataset, IterableDataset) for each in own):
            rank_zero_warn(
                "The fit is resumed in the middle of an epoch, and the batches before are drawn again and dropped. The"
                f" loader of site {site!r} is not a DataLoader over a dataset with indices: only if it gives the same"
                " batches each time does the run equal one that was never interrupted."
            )

    # -- drawing ---------------------------------------------------------------------------------------------------

    def _draw(self, stretch: Stretch) -> Any:
        batch = self._next(stretch)
        if self._pass_seed is not None:  # for what happens to the batch now, such as a device's augmentation
            where, rank = self.place
            seed_generators(derive(self._pass_seed, "loaded", self._drawn_in_pass, rank), self._found(), where)
        self._drawn_in_pass += 1
        return batch

    def _found(self) -> Mapping[str, Any]:
        if self.generators is None:
            return {}
        if self.generators.look():
            rank_zero_warn(
                "The module has made a generator of random numbers in its first step. Make it in __init__, setup or"
                " on_fit_start: then it is seeded by the place in the run. As it is, a resumed run will not equal one"
                " that was never interrupted."
            )
        return self.generators.found

    def _next(self, stretch: Stretch) -> Any:
        if self._pass is not None:
            if self._pass_seed is not None and not self._seeded.seed_batches(stretch.site):
                seed_generators(derive(self._pass_seed, "batch", self._drawn_in_pass, self.place[1]))
            try:
                return next(self._pass)
            except StopIteration:
                self._close()
                if stretch.batches is None:
                    self._epoch = []
                    raise
        return self._begin_pass(stretch)

    def _begin_pass(self, stretch: Stretch) -> Any:
        loader = self.loaders[stretch.site]
        self._drawn_in_pass = 0
        try:
            if self.before_pass is not None:
                self.before_pass(stretch)
            if stretch.seed is None:
                self._pass_seed, self._pass = None, iter(loader)
            else:
                self._pass_seed = pass_seed(stretch.seed, stretch.visit, stretch.first_pass + self._passes)
                self._pass = self._seeded.begin_pass(stretch.site, loader, self._pass_seed, self.place[1])
            return next(self._pass)
        except StopIteration:
            raise InputError(f"site {stretch.site!r} gave no batch; leave it out or give it training records") from None
        finally:
            self._passes += 1

    def _enter(self, epoch: list[Stretch]) -> None:
        self._close()
        self._epoch = epoch
        self._passes = 0
        self._left = self.batches(epoch[0]) if epoch else 0

    def _close(self) -> None:
        self._pass = None  # the last reference: a loader's iterator ends its worker processes when it goes


def _check(loaders: Mapping[str, Iterable[Any]]) -> None:
    if not loaders:
        raise InputError("there is no site; give at least one loader by name")
    check_site_names(loaders, "the training loaders")
    for site, loader in loaders.items():
        if any(sized_len(each) == 0 for each in loaders_in(loader)):
            raise InputError(f"site {site!r} has no training batches; leave it out or give it records")
    kept = {
        site: [each for each in loaders_in(loader) if getattr(each, "persistent_workers", False)]
        for site, loader in loaders.items()
    }
    kept = {site: own for site, own in kept.items() if own}
    if len(kept) > MAX_PERSISTENT_SITES:
        processes = sum(each.num_workers for own in kept.values() for each in own)
        raise InputError(
            f"{len(kept)} sites with persistent_workers=True would keep {processes} worker processes alive; set"
            f" persistent_workers=False (only up to {MAX_PERSISTENT_SITES} sites may keep theirs)"
        )
