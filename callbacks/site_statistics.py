"""SiteStatistics: judges each site's images with batch normalisation's statistics of that site."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn
from typing_extensions import override

from lit_dist.callbacks.around_steps import AroundSteps
from lit_dist.models.norm_statistics import Statistics, estimate, in_place, norms_of
from lit_dist.utils.errors import InputError
from lit_dist.utils.one_lightning import check_package
from lit_dist.utils.outside_loops import on_device
from lit_dist.utils.setting_checks import check_count
from lit_dist.visits.joint_loader import site_of_each
from lit_dist.visits.seeding import derive
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.site_sample import inputs_of, sample


class SiteStatistics(AroundSteps):
    """Validates, tests and predicts each site's images with batch normalisation's statistics of that site.

    All other weights are shared. Where sites have unlike cameras, this is what cyclical weight transfer needs: in
    training each visit is normalised by its own site's batches, and the running statistics are mostly the last site's.
    The idea is that of Li et al., "Revisiting batch normalization for practical domain adaptation",
    https://arxiv.org/abs/1603.04779, and of Andreux et al., "Siloed federated learning for multi-centric
    histopathology datasets", https://arxiv.org/abs/2008.07424, who keep the statistics at their sites.

    The statistics are estimated under the weights that are being judged, from a seeded sample of the site's training
    images, without their labels and without augmentation where the datamodule is one of ours. They are in the network
    during a validation, test or prediction step only, so that weights, checkpoints and hashes are the same with and
    without it; only what is chosen by a validation may differ. A site without training images gets those of the images
    that are judged (transductive), which a warning says.

    It asks for a dict of loaders by site, and for a ``predict_step`` or a ``forward`` that takes a batch or its first
    tensor. Its cost is one more forward pass over ``images`` images a site in each evaluation.

    Args:
        images: The size of the sample of each site; a site that has fewer gives all. 0 leaves the shared statistics.
        seed: The seed of the sample. It is not the run's, so that a model that is tested later, or elsewhere, gets the
            same statistics from the same images.

    Raises:
        InputError: If a setting is out of range; if there are two of this class, or the loaders are not a dict by site.

    Example:
        >>> SiteStatistics(images=32).images
        32
    """

    def __init__(self, images: int = 64, seed: int = 0) -> None:
        check_count(0, 10**6, images=images)
        if images == 1:
            raise InputError("images=1 gives no variance; take 2 at least, or 0 for the shared statistics")
        check_count(0, 2**62, seed=seed)
        self.images = images
        self.seed = seed
        self._estimates = False
        self._judged_site = ""
        self._found: tuple[str, list[nn.Module], Statistics] | None = None  # of the site that is being judged
        self._training: Mapping[str, Any] | None = None  # loaders by site, outside a fit

    # -- when --------------------------------------------------------------------------------------------------------

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_package([trainer, pl_module])
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if sum(isinstance(each, SiteStatistics) for each in callbacks) > 1:
            raise InputError("there are two SiteStatistics; keep one")

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, "validation_step", trainer.val_dataloaders)

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, "test_step", trainer.test_dataloaders)

    @override
    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, "predict_step", trainer.predict_dataloaders)

    def _begin(self, trainer: Trainer, module: LightningModule, step: str, loaders: Any) -> None:
        self.lift()
        if not self.images:
            return
        name = type(self).__name__
        at_server = isinstance(loaders, list) and all(isinstance(each, int) for each in loaders)  # its sites judge
        if not isinstance(loaders, Mapping) and not at_server:
            raise InputError(
                f"{name} needs loaders by site: let the datamodule give a dict such as {{'mgh': loader}}, also"
                " where there is one site only"
            )
        if not self._changes(module):
            rank_zero_info(f"{type(module).__name__} has no batch normalisation, so {name} changes nothing")
        elif isinstance(loaders, Mapping):
            # Before VisitAveraging, which is around it: the statistics are those of the weights that are judged.
            self.wrap(module, step, lambda: self._while_judged(trainer, module, loaders))

    def _changes(self, module: LightningModule) -> bool:
        """Whether there is anything to put in place."""
        return bool(norms_of(module))

    def _while_judged(
        self, trainer: Trainer, module: LightningModule, loaders: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        site = self._judged_site
        return nullcontext() if self._estimates else self._in_place(trainer, module, site, loaders[site])

    @override
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._come_to(trainer.val_dataloaders, dataloader_idx)

    @override
    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._come_to(trainer.test_dataloaders, dataloader_idx)

    @override
    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._come_to(trainer.predict_dataloaders, dataloader_idx)

    def _come_to(self, loaders: Any, number: int) -> None:
        if isinstance(loaders, Mapping):
            self._judged_site = site_of_each(loaders)[number]

    @override
    def lift(self) -> None:
        super().lift()
        self._found = self._training = None

    # -- what --------------------------------------------------------------------------------------------------------

    @contextmanager
    def at_site(self, trainer: Trainer, module: LightningModule, site: str, judged: Any) -> Iterator[None]:
        """Let the module have a site's statistics in the block, in which it is evaluated outside Lightning's loops.

        Args:
            trainer: The trainer.
            module: The module, in evaluation mode.
            site: The site's name.
            judged: The loader of the images that are judged.
        """
        self._found = None
        try:
            with self._in_place(trainer, module, site, judged):
                yield
        finally:
            self._found = None

    @contextmanager
    def _in_place(self, trainer: Trainer, module: LightningModule, site: str, judged: Any) -> Iterator[None]:
        if self._found is None or self._found[0] != site:
            norms = norms_of(module)
            self._found = site, norms, self._estimate(trainer, module, norms, site, judged)
        with in_place(*self._found[1:]):
            yield

    def _estimate(
        self, trainer: Trainer, module: LightningModule, norms: list[nn.Module], site: str, judged: Any
    ) -> Statistics:
        loader = self._training_loader(trainer, module, site)
        if loader is None and not trainer.sanity_checking:  # which comes before Lightning knows them
            rank_zero_warn(
                f"site {site!r} has no training images here, so its statistics come from the images that are judged"
                " (transductive)"
            )
        loader = judged if loader is None else loader
        forward = forward_of(module)

        def pass_on(batch: Any) -> None:
            moved = on_device(trainer, batch)
            try:
                with trainer.precision_plugin.val_step_context():
                    forward(moved)
            except Exception as error:  # whatever a module of the user's raises
                raise InputError(
                    f"{type(module).__name__} cannot predict a batch ({type(error).__name__}: {error}); give it a"
                    " predict_step(batch, batch_idx) that takes what its loaders give"
                ) from error

        self._estimates = True
        try:
            with isolate_rng():
                return estimate(norms, pass_on, self.sampled(loader, site))
        except InputError as error:
            raise InputError(f"{type(self).__name__} cannot look at site {site!r}: {error}") from error
        finally:
            self._estimates = False

    def sampled(self, loader: Any, site: str) -> Iterator[Any]:
        """The seeded sample of a site's records, in batches: see ``sample``."""
        return sample(loader, self.images, derive(self.seed, "statistics", site), least=2)

    def _training_loader(self, trainer: Trainer, module: LightningModule, site: str) -> Any:
        """A loader over a site's training records; None if they are not known by site."""
        data: Any = trainer.datamodule or module  # type: ignore[attr-defined]
        by_site = hasattr(data, "training_records")
        if trainer.state.fn == "fit" and trainer.train_dataloader is not None:
            self._training = _by_site(trainer.train_dataloader)
        elif self._training is None and is_overridden("train_dataloader", data):
            self._training = _by_site(_train_loaders(data))
        elif self._training is None:  # they may have been given to a fit before
            self._training = _by_site(trainer.train_dataloader)
        found = (self._training or {}).get(site)
        return data.training_records(site) if found is None and by_site else found


def find_statistics(trainer: Trainer) -> SiteStatistics | None:
    """The ``SiteStatistics`` of a trainer, if one is to estimate any."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((each for each in callbacks if isinstance(each, SiteStatistics) and each.images), None)


def _train_loaders(data: Any) -> Any:
    """What a datamodule or a module gives, set up for a fit where it has to be."""
    try:
        return data.train_dataloader()
    except (AttributeError, TypeError):
        if isinstance(data, LightningDataModule):
            data.setup("fit")
        return data.train_dataloader()


def _by_site(loaders: Any) -> Mapping[str, Any]:
    loaders = loaders.loaders if isinstance(loaders, SiteLoader) else loaders
    return loaders if isinstance(loaders, Mapping) else {}


def forward_of(module: LightningModule) -> Callable[[Any], Any]:
    """What passes a batch through a module: its ``predict_step``, or of one without, the module on the inputs."""
    if not is_overridden("predict_step", module):
        return lambda batch: module(inputs_of(batch))
    given = inspect.signature(module.predict_step).parameters.values()
    more = [0] * (len([each for each in given if each.kind is not each.KEYWORD_ONLY]) - 1)
    return lambda batch: module.predict_step(batch, *more[:2])
