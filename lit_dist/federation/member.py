"""MemberParty: what a site does for an ensemble: it trains a model alone, and judges those of all sites."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from lit_dist.baton import check_weights, read_checkpoint
from lit_dist.callbacks.run_settings import settings_sha256
from lit_dist.ensemble import SiteEnsemble
from lit_dist.federation.leg import AwayError
from lit_dist.federation.parcel import Tree
from lit_dist.federation.party import Parts, Party, run_id
from lit_dist.federation.site import AtStart
from lit_dist.run_folder import newest_checkpoint, run_folder
from lit_dist.seeding import run_seed

ENSEMBLE = "ensemble"
"""What the mean of all members' predictions is called, beside the members' sites."""

SPLITS = ("val", "test")


class MemberParty(Party):
    """Trains alone as ``lit-dist fit`` would, and tells what the models of all sites are worth on its own images.

    Args:
        name: The site's name.
        make: Makes the parts anew for the run of an id, with torch's generators as a fit finds them. Its callbacks
            write a ``RunCheckpoint``, to go on from, if a fit is to outlast a crash.
        metrics: The names of the metrics that may leave the site; None lets all of them.
        min_images: The least number of training images with which the site takes part.
    """

    def __init__(
        self, name: str, make: Callable[[str], Parts], metrics: list[str] | None = None, min_images: int = 1
    ) -> None:
        super().__init__(name, make(""), metrics, min_images)
        self.make = make

    @property
    @override
    def questions(self) -> Mapping[str, Callable[[Tree], Tree]]:
        return {"greet": self.greet, "settings": self.settings, "fit": self.fit, "judge": self.judge}

    def settings(self, content: Tree) -> Tree:
        """The SHA-256 of the settings that decide what the fit does."""
        parts = self.make("")
        asking = _Asking()
        parts.trainer.callbacks.append(asking)  # type: ignore[attr-defined]
        with contextlib.suppress(AwayError):
            parts.trainer.fit(parts.module, datamodule=parts.data)
        return {"settings": asking.sha256}

    def fit(self, content: Tree) -> Tree:
        """Train alone from the server's weights, or go on with it; the best model is given, if one was looked for."""
        parts = self.make(run_id(content["run"]))
        check_weights(content["state_dict"], parts.module.state_dict(), "the server's weights")
        parts.module.load_state_dict(content["state_dict"])
        state = newest_checkpoint(run_folder(parts.trainer))
        with warnings.catch_warnings():
            # That it has some of this run's already is so where the fit is gone on with.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            parts.trainer.fit(parts.module, datamodule=parts.data, ckpt_path=state)
        callbacks: list[Any] = parts.trainer.checkpoint_callbacks
        best = [each.best_model_path for each in callbacks if isinstance(each, ModelCheckpoint) and each.monitor]
        weights = read_checkpoint(Path(best[0]))["state_dict"] if any(best) else parts.module.state_dict()
        return {"state_dict": weights}

    def judge(self, content: Tree) -> Tree:
        """What each model, and the mean of what they all predict, is worth on this site's images."""
        parts = self.make("")
        models: dict[str, LightningModule] = {}
        for name, weights in content["members"].items():
            check_weights(weights, parts.module.state_dict(), f"the model of {name}")
            models[name] = copy.deepcopy(parts.module)
            models[name].load_state_dict(weights)
        models[ENSEMBLE] = SiteEnsemble(list(models.values()))
        return {
            name: {split: self.evaluate(model, parts.trainer, split) for split in SPLITS}
            for name, model in models.items()
        }


class _Asking(AtStart):
    """Notes the settings before it ends the fit."""

    sha256 = ""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sha256 = settings_sha256(trainer, {"class": "single", "seed": run_seed()})
        super().on_train_start(trainer, pl_module)
