"""EnsembleClient: what a site does for an ensemble: it trains a model alone, and judges those of all sites."""

import contextlib
import copy
import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from lit_dist.checkpoints.baton import fingerprint, read_checkpoint
from lit_dist.checkpoints.run_folder import newest_checkpoint, run_folder
from lit_dist.federation.client import Parts, SiteClient, run_id
from lit_dist.federation.counts import PartialFit
from lit_dist.federation.limits import Limiter
from lit_dist.federation.partial_fit import AwayError, with_callback
from lit_dist.federation.transfer_client import AtStart
from lit_dist.federation.validate_question import check_members, check_names, check_sent_weights
from lit_dist.federation.wire import Tree
from lit_dist.models.ensemble import SiteEnsemble
from lit_dist.models.table_preparation import learnt_before
from lit_dist.provenance.run_settings import settings_sha256
from lit_dist.visits.seeding import run_seed

ENSEMBLE = "ensemble"
"""What the mean of all members' predictions is called, beside the members' sites."""

SPLITS = ("val", "test")


class EnsembleClient(SiteClient):
    """Trains alone as ``lit-dist fit`` would, and tells how the models of all sites perform on its own images.

    Args:
        name: The site's name.
        make: Makes the parts anew for the run of an id, with torch's generators as a fit finds them. Its callbacks
            write a ``RunCheckpoint``, to resume from, if a fit is to outlast a crash.
        *args: The other arguments of ``SiteClient``.
        **kwargs: The same.
    """

    def __init__(self, name: str, make: Callable[[str], Parts], *args: Any, **kwargs: Any) -> None:
        super().__init__(name, make(""), *args, **kwargs)
        self.make = make

    @property
    @override
    def questions(self) -> Mapping[str, Callable[[Tree], Tree]]:
        return {"greet": self.greet, "settings": self.settings, "fit": self.fit, "judge": self.judge}

    def settings(self, content: Tree) -> Tree:
        """The SHA-256 of the settings that decide what the fit does."""
        check_names(content, set())
        return {"settings": self._settings()}

    def _settings(self) -> str:
        parts = self.make("")
        asking = _Asking()
        with contextlib.suppress(AwayError), with_callback(parts.trainer, asking):
            parts.trainer.fit(parts.module, datamodule=parts.data)
        return asking.sha256

    def fit(self, content: Tree) -> Tree:
        """Train alone from the server's weights, or resume it; the best model is given, if one was looked for."""
        check_names(content, {"run", "state_dict"})
        run = run_id(content["run"])
        settings = self._settings()
        parts = self.make(run)
        weights = check_sent_weights(content["state_dict"], parts.module.state_dict(), "the server's weights")
        parts.module.load_state_dict(weights)
        limiter = Limiter(self.own, self.name, None, self.counts)
        sent = fingerprint(weights)[0]
        limiter.begin(PartialFit(run, hashlib.sha256(f"{sent}{settings}".encode()).hexdigest(), sent, (0, 0, 0)))
        parts.trainer.callbacks.insert(0, limiter)  # type: ignore[attr-defined]
        state = newest_checkpoint(run_folder(parts.trainer))
        with warnings.catch_warnings():
            # That it has some of this run's already is so where the fit is resumed.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            parts.trainer.fit(parts.module, datamodule=parts.data, ckpt_path=state)
        callbacks: list[Any] = parts.trainer.checkpoint_callbacks
        best = [each.best_model_path for each in callbacks if isinstance(each, ModelCheckpoint) and each.monitor]
        trained = read_checkpoint(Path(best[0]))["state_dict"] if any(best) else parts.module.state_dict()
        if learnt := learnt_before(parts.module):
            self.counts.estimate(fingerprint({name: trained[name] for name in learnt})[0], self.own)
        return {"state_dict": trained}

    def judge(self, content: Tree) -> Tree:
        """How each model, and the mean of what they all predict, performs on this site's images."""
        check_names(content, {"members"})
        parts = self.make("")
        models: dict[str, LightningModule] = {}
        members = check_members(content["members"], parts.module.state_dict())
        hashes = {name: fingerprint(weights)[0] for name, weights in members.items()}
        for sha256 in (*hashes.values(), "".join(hashes.values())):  # of the mean, too
            self.counts.validate(sha256, self.own)
        for name, weights in members.items():
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
