"""SiteParty: what a site does when the server asks it; it has only its own images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.baton import check_weights
from lit_dist.callbacks import WeightTransfer
from lit_dist.callbacks.run_settings import versions
from lit_dist.callbacks.shadow import Shadow
from lit_dist.callbacks.visit_record import batch_size
from lit_dist.errors import InputError
from lit_dist.federation.leg import AwayError, Elsewhere, run_leg
from lit_dist.federation.parcel import Tree, pack, split, unpack
from lit_dist.federation.stays import Stays
from lit_dist.ledger import read_entries
from lit_dist.run_folder import LEDGER, run_folder
from lit_dist.site_loader import SiteLoader


class SiteParty:
    """Answers the server's questions.

    Args:
        name: The site's name.
        trainer: A trainer without loggers, whose folder is this site's own. It has the run's transfer callback.
        module: The run's module; its weights come with each question.
        data: The site's own images: one training loader, alone or under the site's name.
        metrics: The names of the metrics that may leave the site; None lets all of them.
        min_images: The least number of training images with which the site takes part.

    Raises:
        InputError: If the trainer has no transfer callback.
    """

    def __init__(
        self,
        name: str,
        trainer: Trainer,
        module: LightningModule,
        data: LightningDataModule,
        metrics: list[str] | None = None,
        min_images: int = 1,
    ) -> None:
        self.name = name
        self.trainer = trainer
        self.module = module
        self.data = data
        self.metrics = metrics
        self.min_images = min_images
        self.transfer = find_transfer(trainer)
        self.transfer.recorded = metrics
        self._stays = Stays(Path(trainer.default_root_dir) / "stays", name, self.transfer)
        self._questions: dict[str, Callable[[Tree], Tree]] = {
            "greet": self.greet,
            "settings": self.settings,
            "train": self.train,
            "validate": self.validate,
        }

    def answer(self, question: str, content: bytes) -> bytes:
        """Answer a question.

        Args:
            question: Its name.
            content: What belongs to it, packed.

        Returns:
            The answer, packed. What the site's people or the server's can mend comes as a text under ``"refused"``.
        """
        try:
            if question not in self._questions:
                raise InputError(f"there is no question {question!r}")
            return pack(self._questions[question](unpack(content)))
        except InputError as error:
            return pack({"refused": str(error)})

    def greet(self, content: Tree) -> Tree:
        """How many images and batches there are here, and the versions of the programs."""
        self.data.prepare_data()
        self.data.setup("fit")
        loader = _own(self.data.train_dataloader(), self.name)
        images = len(getattr(loader, "dataset", loader))
        if images < self.min_images:
            raise InputError(f"it has {images} training images, and takes part with {self.min_images}")
        return {
            "versions": versions(),
            "batches": len(loader),
            "images": images,
            "classes": getattr(self.data, "num_classes", None),
        }

    def settings(self, content: Tree) -> Tree:
        """The SHA-256 of the settings that decide what a visit does."""
        asking = _AtStart()
        self.trainer.callbacks.append(asking)  # type: ignore[attr-defined]
        try:
            self._leg(content["batches"], None)
        finally:
            self.trainer.callbacks.remove(asking)  # type: ignore[attr-defined]
        return {"settings": self.transfer.settings_sha256}

    def train(self, content: Tree) -> Tree:
        """Go on with the run from a baton, until it needs what is not here."""
        baton = content["baton"]
        check_weights(baton["state_dict"], self.module.state_dict(), "the server's baton")
        ledger = run_folder(self.trainer) / LEDGER
        ledger.unlink(missing_ok=True)
        pause = self._leg(content["batches"], self._stays.join(baton))
        if pause is None:
            raise InputError("a callback or hook of this site ended the fit; that is for the server to do")
        going, staying = split(pause.state, self.trainer, self.transfer)
        self._stays.keep(pause.state, staying)
        return {"baton": going, "entries": self._lines(ledger, going), "where": pause.where}

    def _leg(self, batches: Mapping[str, int], state: Tree | None) -> Any:
        self.trainer.num_sanity_val_steps = 0
        shadows = [
            Shadow(self.data, "train_dataloader", lambda: self._loaders(train.original(), batches)),
            Shadow(self.data, "val_dataloader", lambda: [0]),  # validation is where it begins to be the server's
        ]
        train = shadows[0]
        limit, self.trainer.limit_val_batches = self.trainer.limit_val_batches, whole(self.trainer.limit_val_batches)
        try:
            return run_leg(self.trainer, self.module, self.data, state, at_site=True)
        finally:
            self.trainer.limit_val_batches = limit
            for shadow in shadows:
                shadow.lift()

    def _loaders(self, own: Any, batches: Mapping[str, int]) -> dict[str, Any]:
        here = {self.name: _own(own, self.name)}
        return {site: here.get(site, Elsewhere(site, number)) for site, number in batches.items()}

    def _lines(self, ledger: Path, baton: Tree) -> list[str]:
        """The lines of this leg. One that waits for the validation's metrics is the server's to write."""
        head = baton["callbacks"][self.transfer.state_key]["record"]["head"]
        entries = read_entries(ledger) if ledger.exists() else []
        last = max((place for place, entry in enumerate(entries, start=1) if entry.sha256 == head), default=0)
        return [entry.line for entry in entries[:last]]

    def validate(self, content: Tree) -> Tree:
        """What the weights are worth on this site's validation images."""
        check_weights(content["state_dict"], self.module.state_dict(), "the server's weights")
        self.module.load_state_dict(content["state_dict"])
        count = _Count()
        self.trainer.callbacks.append(count)  # type: ignore[attr-defined]
        try:
            found = self.trainer.validate(self.module, datamodule=self.data, verbose=False)
        finally:
            self.trainer.callbacks.remove(count)  # type: ignore[attr-defined]
        values = {name: float(value) for name, value in (found[0] if found else {}).items()}
        allowed = values if self.metrics is None else self.metrics
        return {"images": count.images, "metrics": {name: v for name, v in values.items() if name in allowed}}


class _AtStart(Callback):
    """Ends a fit before its first batch."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise AwayError("")


class _Count(Callback):
    """Counts the images of a validation."""

    images = 0

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int, **__: int
    ) -> None:
        self.images += batch_size(batch)


def find_transfer(trainer: Trainer) -> WeightTransfer:
    """The trainer's transfer callback.

    Raises:
        InputError: If there is none.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightTransfer):
            return callback
    raise InputError("a federation needs a transfer callback, such as CyclicalWeightTransfer")


def whole(limit: int | float) -> int | float:
    """The limit of a placeholder for a validation: nothing stays nothing, all else is all of it."""
    return 1.0 if limit > 0 else limit


def _own(loaders: Any, site: str) -> Any:
    if isinstance(loaders, SiteLoader):
        loaders = loaders.loaders
    if not isinstance(loaders, Mapping):
        return loaders
    if site in loaders:
        return loaders[site]
    if len(loaders) == 1:
        return next(iter(loaders.values()))
    raise InputError(f"the data of {site!r} has loaders of {', '.join(loaders)}, and none of this site's name")
