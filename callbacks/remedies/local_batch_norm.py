"""LocalBatchNorm: each site keeps batch normalisation's statistics of its own visits, and if asked to its weights."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor
from typing_extensions import override

from lit_dist.callbacks.remedies.fix_bn import FixBN
from lit_dist.callbacks.site_statistics import SiteStatistics
from lit_dist.checkpoints.baton import read_checkpoint
from lit_dist.models.norm_statistics import exchanged, norm_tensors
from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import whole
from lit_dist.visits.local_tensors import LOCAL
from lit_dist.visits.visit_callback import VisitCallback


class LocalBatchNorm(VisitCallback, SiteStatistics):
    """Leaves batch normalisation at the sites: the statistics (SiloBN), with ``affine`` its weights and biases (FedBN).

    A site finds at each visit the statistics that its last one has left, counters among them, and every other tensor as
    it came in. What travels, is hashed and merged are these layers as the run began with them: so no other site, and no
    server, sees a site's own. With ``optimizer_state="carry"`` the optimizer's state of what stays, stays, too.

    Validation, test and prediction judge a site's images with its own layers, which are in place within steps only. A
    site where no visit has ended gets statistics that are estimated, as by ``SiteStatistics``, which this callback is;
    with ``affine`` it has the weights of these layers that the run began with.

    Sources: Andreux et al., "Siloed federated learning for multi-centric histopathology datasets", 2020,
    https://arxiv.org/abs/2008.07424 (statistics); Li et al., "FedBN: federated learning on non-IID features via local
    batch normalization", ICLR 2021, https://arxiv.org/abs/2102.07623 (weights and biases, too).

    Args:
        affine: Whether the weights and biases of these layers stay at the sites, too.
        images: From how many images the statistics of a site without any are estimated.
        seed: The seed of that sample, as in ``SiteStatistics``.

    Raises:
        InputError: If a setting is out of range; when a fit starts, if the strategy shards the weights, or beside
            another ``SiteStatistics``, ``FixBN`` or ``WeightAveraging``.

    Example:
        >>> LocalBatchNorm(affine=True).affine
        True
    """

    def __init__(self, affine: bool = False, images: int = 64, seed: int = 0) -> None:
        super().__init__(images, seed)
        if not isinstance(affine, bool):
            raise InputError(f"affine={affine!r} is not true or false")
        if not images:
            raise InputError("images=0 leaves a site that was not visited without statistics; take 2 at least")
        self.affine = affine
        self._own: tuple[str, dict[str, Tensor], dict[str, Tensor], bool] | None = None  # of the site that is judged

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, FixBN | WeightAveraging):
                raise InputError(
                    f"{type(callback).__name__} makes one set of statistics for all sites, and LocalBatchNorm keeps one"
                    " of each site's own; leave one of them out"
                )
        if not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
            raise InputError(f"LocalBatchNorm needs whole weights: not {type(trainer.strategy).__name__}, but ddp")

    @override
    def local_tensors(self, module: LightningModule) -> dict[str, Tensor]:
        return norm_tensors(module, self.affine)

    @property
    @override
    def state_key(self) -> str:
        """The class alone: there is one, and what the sites have kept is theirs whatever the other settings are."""
        return self._generate_state_key()

    @staticmethod
    def own_of(path: str | Path) -> dict[str, Tensor]:
        """What a site has kept of a federation, in the newest ``.stay`` file of the run's folder there.

        It goes into a module that has the weights of the federation's checkpoint, by ``load_state_dict`` with
        ``strict=False``.

        Raises:
            InputError: If the file is damaged, or none of a run with this callback.
        """
        for key, state in read_checkpoint(Path(path)).get("visit_callbacks", {}).items():
            for kept in state["staying"].values() if key.partition("{")[0] == LocalBatchNorm.__qualname__ else ():
                return dict(whole(kept)[LOCAL]["own"])
        raise InputError(f"{path} has nothing of batch normalisation: it is of a run without LocalBatchNorm")

    @override
    def _changes(self, module: LightningModule) -> bool:
        return bool(norm_tensors(module, affine=True))

    @override
    def lift(self) -> None:
        super().lift()
        self._own = None

    @contextmanager
    @override
    def at_site(self, trainer: Trainer, module: LightningModule, site: str, judged: Any) -> Iterator[None]:
        self._own = None  # a visit may have ended since
        with super().at_site(trainer, module, site, judged):
            yield

    @contextmanager
    @override
    def _in_place(self, trainer: Trainer, module: LightningModule, site: str, judged: Any) -> Iterator[None]:
        if self._own is None or self._own[0] != site:
            self._own = site, norm_tensors(module, affine=True), *self.of_site(site)
        _, tensors, values, known = self._own
        estimated = nullcontext() if known else super()._in_place(trainer, module, site, judged)
        with exchanged(tensors, values), estimated:
            yield

    @property
    def kept_sites(self) -> list[str]:
        """The sites where a visit has ended."""
        return [site for site in self._kept if "own" in self.stays(site).get(LOCAL, {})]

    def of_site(self, site: str) -> tuple[dict[str, Tensor], bool]:
        """What to put in place for a site, and whether its statistics are among that, or there already."""
        kept = self.stays(site).get(LOCAL, {})
        if "came_in" in kept:  # its visit is under way
            return {}, True
        if "own" in kept:
            return kept["own"], True
        # A visit elsewhere may be under way, which has put what came in aside.
        sites = list(self._kept) if self._site is None else [self._site]  # not all, which may lie in files
        others = (self.stays(each).get(LOCAL, {}) for each in sites)
        return next((each["came_in"] for each in others if "came_in" in each), {}), False
