"""SiteClient: what every site does, whatever kind of run it takes part in; it has only its own images."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.parameter import UninitializedParameter
from torch.utils.data import BatchSampler
from typing_extensions import override

from lit_dist.callbacks.visit_averaging import find_averaging
from lit_dist.federation.counts import Counts
from lit_dist.federation.partial_fit import with_callback
from lit_dist.federation.refusal import Refusal, refusal
from lit_dist.federation.site_settings import SiteSettings
from lit_dist.federation.validate_question import check_names, check_size, named
from lit_dist.federation.wire import Message, Tree, pack, unpack
from lit_dist.provenance.run_settings import versions
from lit_dist.tasks.found import task_of
from lit_dist.utils.errors import InputError
from lit_dist.utils.method_patch import patched
from lit_dist.visits.batch_size import batch_size
from lit_dist.visits.joint_loader import as_loader
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.visit_callback import visit_callbacks

# Of a run's settings, or of a question: asked again, the site would fail again.
_MISTAKES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MisconfigurationException,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a fit at a site is made of.

    Attributes:
        trainer: A trainer whose folder is this site's own.
        module: The run's module; its weights come with each question.
        data: The site's own images: one training loader, alone or under the site's name.
    """

    trainer: Trainer
    module: LightningModule
    data: LightningDataModule


class SiteClient(ABC):
    """Answers the server's questions.

    Args:
        name: The site's name.
        parts: What its fits are made of.
        own: The site's own settings; by default there is no limit, and all metrics may leave the site.
        folder: Where the site counts what it does; None takes the folder of the trainer.
    """

    def __init__(self, name: str, parts: Parts, own: SiteSettings | None = None, folder: Path | None = None) -> None:
        self.name = name
        self.trainer, self.module, self.data = parts.trainer, parts.module, parts.data
        if averaging := find_averaging(self.trainer):
            averaging.judge_what_is_sent()
        self.own = own or SiteSettings(data={})
        self.counts = Counts(folder or Path(self.trainer.default_root_dir))

    @property
    @abstractmethod
    def questions(self) -> Mapping[str, Callable[[Tree], Tree]]:
        """What answers which question."""

    def answer(self, question: str, content: Message) -> Message:
        """Answer a question.

        Args:
            question: Its name.
            content: What belongs to it, packed.

        Returns:
            The answer, packed. Where there is none for a reason that people can mend, a text under ``"refused"``.
        """
        try:
            return pack(self.reply(question, content))
        except InputError as error:
            return refusal(error)

    def reply(self, question: str, content: Message) -> Tree:
        """Answer a question as ``answer`` does, but for packing, and raise ``InputError`` where that cannot be."""
        if question not in self.questions:
            raise Refusal(f"there is no question {question!r}")
        known = [each for each in self.module.parameters() if not isinstance(each, UninitializedParameter)]
        weights = sum(each.nbytes for each in known)
        check_size(question, content, weights * (1 + len(visit_callbacks(self.trainer))))
        tree = named(unpack)(content)
        del content  # as large as the weights
        try:
            return self.questions[question](tree)
        except InputError:
            raise
        except _MISTAKES as error:
            raise InputError(f"{type(error).__name__}: {error}") from error

    def greet(self, content: Tree) -> Tree:
        """How many images and batches there are here, the versions of the programs, and what encodes the images."""
        check_names(content, set())
        self.data.prepare_data()
        self.data.setup("fit")
        loader = own_loader(self.data.train_dataloader(), self.name)
        images = len(getattr(loader, "dataset", loader))
        if images < self.own.min_images:
            raise Refusal(f"it has {images} training records, and takes part with {self.own.min_images}")
        features = getattr(self.data, "features_sha256", None)
        own = {"processes": str(self.trainer.world_size)} | ({} if features is None else {"features": features})
        return {
            "versions": versions() | own,
            "batches": len(loader),
            "images": _drawn(loader),
            "batch_size": getattr(self.data, "batch_size", None),
            "classes": getattr(self.data, "num_classes", None),
        }

    def evaluate(self, module: LightningModule, trainer: Trainer, split: str = "val") -> Tree:
        """How a module performs on this site's ``"val"`` or ``"test"`` images.

        Returns:
            The number of images, and of the metrics, and the sums that others follow from, those that may leave the
            site.
        """
        count = _Count()
        self.data.prepare_data()
        self.data.setup("validate" if split == "val" else "test")
        loaders = self._own_loaders(split)
        if not loaders:
            return {"images": 0, "metrics": {}, "sums": []}
        evaluation = trainer.validate if split == "val" else trainer.test
        train = self.data.train_dataloader
        here: dict[str, Callable[[], Any]] = {
            f"{split}_dataloader": lambda: loaders,
            "train_dataloader": lambda: {self.name: own_loader(train(), self.name)},  # for SiteStatistics
        }
        with patched(self.data, **here), with_callback(trainer, count):
            found = evaluation(module, datamodule=self.data, verbose=False)
        values = {name: float(value) for name, value in (found[0] if found else {}).items()}
        allowed = values if self.own.metrics is None else self.own.metrics
        # Each process has counted its part; where the parts are filled up to one size, so are those of a simulation.
        counted = torch.tensor(count.images, device=trainer.strategy.root_device)
        images = int(trainer.strategy.reduce(counted, reduce_op="sum"))
        metrics = {name: v for name, v in values.items() if name in allowed}
        return {"images": images, "metrics": metrics, "sums": self._sums(module, split, allowed)}

    def _sums(self, module: LightningModule, split: str, allowed: Container[str]) -> list[float]:
        """What the measures of all sites follow from, if those of this site may leave it."""
        sums = getattr(getattr(module, "reports", None), "sums", {}).get(self.name)
        measures = task_of(module).measures.items()
        needed = [f"{split}_{name}" for name, measure in measures if measure.pooled == "sums"]
        return sums.tolist() if sums is not None and needed and all(name in allowed for name in needed) else []

    def _own_loaders(self, split: str) -> dict[str, Any]:
        """This site's loader under its name, if there is one. Of test images there may be every site's."""
        loaders = getattr(self.data, f"{split}_dataloader")()
        only = getattr(self.data, "only_site", None)
        if isinstance(loaders, Mapping) and (only is not None or not loaders):
            return {self.name: loaders[only]} if only in loaders else {}
        return {self.name: own_loader(loaders, self.name)}


class _Count(Callback):
    """Counts the images of an evaluation."""

    takes_part = False

    images = 0

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int, **__: int
    ) -> None:
        self.images += batch_size(batch)

    on_test_batch_end = on_validation_batch_end


def _drawn(loader: Any) -> int:
    """How many images a pass over a loader draws at most: a sampler may draw one several times."""
    batches = getattr(loader, "batch_sampler", None)
    if type(batches) is BatchSampler:
        return len(batches.sampler)  # type: ignore[arg-type]
    whole = len(loader) * (getattr(batches, "batch_size", None) or 0)
    return max(len(getattr(loader, "dataset", loader)), whole)


def run_id(given: Any) -> str:
    """A run's id, which comes from the server, and which a site names a folder by; anything else is refused."""
    if not isinstance(given, str) or not re.fullmatch("[0-9a-f]{32}", given):
        raise Refusal("the run's id is not one of 32 hexadecimal digits")
    return given


def own_loader(loaders: Any, site: str) -> Any:
    """A site's own loader, of what its datamodule gives: a loader, alone or under the site's name."""
    if isinstance(loaders, SiteLoader):
        loaders = loaders.loaders
    if not isinstance(loaders, Mapping):
        return as_loader(loaders)
    if site in loaders:
        return as_loader(loaders[site])
    if len(loaders) == 1:
        return as_loader(next(iter(loaders.values())))
    raise InputError(f"the data of {site!r} has loaders of {', '.join(loaders)}, and none of this site's name")
