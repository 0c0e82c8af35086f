"""Turns the training loaders of any datamodule or module into a SiteLoader for one fit."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader

from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import set_train_source, train_source
from lit_dist.utils.method_patch import MethodPatch
from lit_dist.visits.seeding import ModuleGenerators
from lit_dist.visits.site_loader import SiteLoader

_HOW = "let train_dataloader() return {site: loader}, or pass fit(model, {site: loader})"


class SiteSource:
    """Stands between Lightning's fit loop and whatever serves the training loaders.

    It asks for the loaders once, wraps them in a ``SiteLoader``, and gives the same one back whenever Lightning plans
    an epoch anew. ``close`` leaves the data source as it was.

    Args:
        trainer: The trainer of the fit.
        connect: Called with each new ``SiteLoader``.
        single: Whether the training data may be one loader, or any other: where it is several loaders that are drawn
            from at once, it is left alone.

    Attributes:
        loader: The ``SiteLoader``; None until the loaders are known.

    Raises:
        InputError: If the fit's training data is not one loader a site.
    """

    def __init__(self, trainer: Trainer, connect: Callable[[SiteLoader], None], single: bool = False) -> None:
        self.loader: SiteLoader | None = None
        self._trainer = trainer
        self._connect = connect
        self._single = single
        self._reload: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        self._loaded_in = 0
        self._patch: MethodPatch | None = None
        self._given: Any = None
        source = train_source(trainer)
        if isinstance(source, SiteLoader):
            self._take(source)
        elif isinstance(source, LightningDataModule | LightningModule):
            self._patch = MethodPatch(source, "train_dataloader", lambda: self._request())
        elif single or isinstance(source, Mapping | list | tuple | CombinedLoader):
            self._given = source
            set_train_source(trainer, self._wrapped(source))
        else:
            raise InputError(f"fit() was given {type(source).__name__} as its training loader; {_HOW}")

    def replan(self, now: bool = False) -> None:
        """Make Lightning plan the next epoch anew, ``now`` also where one was planned and none has run since."""
        # Lightning compares this with the number of epochs since the last planning, and looks before each epoch.
        self._set_reload(-1 if now else 1)

    def settle(self) -> None:
        """Go back to the user's own setting of reloading, so that no validation loader is reloaded for our sake."""
        self._set_reload(self._reload)

    def close(self) -> None:
        """Leave the data source and the trainer as they were."""
        self.settle()
        if self._patch is not None:
            self._patch.lift()
            self._patch = None
        if self._given is not None:
            set_train_source(self._trainer, self._given)
        if self.loader is not None:
            self.loader.release()

    def _set_reload(self, epochs: int) -> None:
        self._trainer.reload_dataloaders_every_n_epochs = epochs  # type: ignore[attr-defined]

    def _request(self) -> Any:
        epoch = self._trainer.current_epoch
        current = self.loader is not None and self._trainer.train_dataloader is self.loader.iterables
        due = self._reload and epoch - self._loaded_in >= self._reload
        if self.loader is None or not current or due:
            assert self._patch is not None
            self._loaded_in = epoch
            return self._wrapped(self._patch.original())
        return self.loader

    def _wrapped(self, loaders: Any) -> Any:
        if not self._single or isinstance(loaders, SiteLoader):
            self._take(_site_loader(loaders))
        elif isinstance(loaders, Mapping | list | tuple | CombinedLoader):
            return loaders
        else:
            self._take(_EpochLoader(loaders))
        return self.loader

    def _take(self, loader: SiteLoader) -> None:
        self.loader = loader
        loader.place = self._trainer.strategy.root_device, self._trainer.global_rank
        loader.generators = ModuleGenerators(self._trainer.lightning_module)
        self._connect(loader)


def _site_loader(loaders: Any) -> SiteLoader:
    if isinstance(loaders, SiteLoader):
        return loaders
    if isinstance(loaders, CombinedLoader):
        loaders = loaders.iterables
    if isinstance(loaders, Mapping):
        return SiteLoader(loaders)
    if isinstance(loaders, list | tuple):
        return SiteLoader({str(number): loader for number, loader in enumerate(loaders)})
    raise InputError(f"train_dataloader() returned one {type(loaders).__name__}, not one loader a site; {_HOW}")


class _EpochLoader(SiteLoader):
    """One loader, drawn from as that of the only site; it is also what the trainer shows of it."""

    def __init__(self, loader: Iterable[Any]) -> None:
        super().__init__({"train": loader})

    @property
    def iterables(self) -> Any:
        """The loader."""
        return self.loaders["train"]
