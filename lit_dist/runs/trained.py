"""TrainedRun: a run's model and its datamodule, made of what the run's folder has, to predict or to be exported."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lit_dist.callbacks.site_statistics import SiteStatistics, forward_of
from lit_dist.callbacks.visit_averaging import judged_weights
from lit_dist.checkpoints.baton import check_weights, read_checkpoint
from lit_dist.checkpoints.run_folder import CHECKPOINTS, SETTINGS, SIGNATURE, SPLITS, read_settings
from lit_dist.datamodules.frozen_encoder import FrozenEncoder
from lit_dist.datamodules.label_table import read_table
from lit_dist.datamodules.site_records import SiteRecords
from lit_dist.models.ensemble import SiteEnsemble
from lit_dist.models.image_module import ImageModule
from lit_dist.runs.lightning_cli import build
from lit_dist.runs.make_trainer import as_list
from lit_dist.tasks.found import own_task
from lit_dist.tasks.task import ClassesTask, Task
from lit_dist.utils.atomic_write import read_text
from lit_dist.utils.errors import InputError
from lit_dist.utils.signatures import imported


@dataclass(frozen=True)
class TrainedRun:
    """A run's model with its weights, and what prepares records for it.

    Attributes:
        folder: The run's folder.
        settings: Those of its ``config.yaml``.
        checkpoint: The file of the weights; None of an ensemble, whose settings name those of its members.
        module: The model, in evaluation mode.
        data: The run's datamodule, which has read no data.
        trainer: A trainer with the run's precision, on the best device here.
        task: What is predicted, with the classes' names; None if the module does not say.
        statistics: The run's callback that judged each site by batch normalisation of its own, with what it had kept.
        signature: What the run has left of its records: see ``SiteRecords.signature``.
    """

    folder: Path
    settings: Mapping[str, Any]
    checkpoint: Path | None
    module: LightningModule
    data: SiteRecords
    trainer: Trainer
    task: Task | None
    statistics: SiteStatistics | None
    signature: Mapping[str, Any]

    @cached_property
    def sites(self) -> list[str]:
        """The names of the run's sites, as far as its folder has them."""
        path = self.folder / SPLITS
        if not path.is_file():
            return []
        return list(read_table(path, ["site"])["site"].unique())

    def columns(self, kind: str) -> list[str]:
        """The names of the ``"numeric"`` or ``"categorical"`` columns of a run on a table, in the model's order.

        Raises:
            InputError: If the run has not left them, and its table is not here.
        """
        found, wanted = self.signature.get(kind), getattr(self.module, "hparams", {}).get(kind)
        fits = isinstance(found, list) and all(isinstance(name, str) for name in found)
        if not fits or (wanted is not None and len(found or ()) != wanted):
            raise InputError(
                f"{self.folder / SIGNATURE} does not say the {kind} columns of this run; use it where its table is, at"
                " the path that its configuration has"
            )
        return list(found or ())

    @property
    def standardised(self) -> bool:
        """Whether each site's numeric columns were standardised by its own records."""
        return bool(self.settings["data"].get("init_args", {}).get("standardise_sites"))

    def batch(self, inputs: Tensor) -> Any:
        """What the model gets of prepared images, uint8, or of raw values of a table: on its device, without labels."""
        device = self.trainer.strategy.root_device
        batch = [inputs.to(device), torch.zeros(len(inputs), dtype=torch.int64, device=device)]
        return self.trainer.precision_plugin.convert_input(self.data.on_after_batch_transfer(batch, 0))

    def predict(self, inputs: Tensor) -> Tensor:
        """The model's predictions of prepared images, uint8, or of raw values of a table: float (records, ...), on CPU.

        Raises:
            InputError: If the module cannot predict them, or gives something else.
        """
        if isinstance(self.data, FrozenEncoder) and inputs.ndim == 4:
            inputs = self.data.encoded(inputs)
        with torch.no_grad(), self.trainer.precision_plugin.predict_step_context():
            found = forward_of(self.module)(self.batch(inputs))
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(inputs):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"{type(self.module).__name__} predicts {what} of {len(inputs)} records: let its predict_step give one"
                " row a record"
            )
        return found.detach().float().cpu()


def load_run(
    folder: Path,
    checkpoint: Path | None = None,
    accelerator: str = "auto",
    settings: Mapping[str, Any] | None = None,
) -> TrainedRun:
    """Load a run's model.

    Args:
        folder: The run's folder.
        checkpoint: The file with the weights; the run's ``best.ckpt`` by default.
        accelerator: Where it is to compute, as Lightning's trainer has it.
        settings: Its settings; those of its ``config.yaml`` by default.

    Raises:
        InputError: If the folder has no such run, or the weights do not fit.
    """
    settings = settings or read_settings(folder / SETTINGS, ("model", "data", "trainer"))
    made = build(_to_predict(settings, accelerator))
    module, data, trainer = made.model, made.datamodule, made.trainer
    trainer.precision_plugin.convert_module(module)  # in which the weights are
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    statistics = next((each for each in callbacks if isinstance(each, SiteStatistics)), None)
    path = None if checkpoint is None and isinstance(module, SiteEnsemble) else _file(folder, checkpoint)
    if isinstance(module, SiteEnsemble) and module.by_size:
        data.prepare_data()
        data.setup("predict")
        module.weigh(data)
    if path is not None:
        saved = read_checkpoint(path)
        check_weights(saved.get("state_dict", {}), module.state_dict(), path)
        module.load_state_dict(judged_weights(saved))
        kept = saved.get("callbacks", {}).get(statistics.state_key) if statistics is not None else None
        if statistics is not None and kept is not None:
            statistics.load_state_dict(kept)
    signature = _signature(folder, data)
    module.to(trainer.strategy.root_device).eval()
    return TrainedRun(folder, settings, path, module, data, trainer, _task(module, signature), statistics, signature)


def _to_predict(settings: Mapping[str, Any], accelerator: str) -> dict[str, Any]:
    """The settings with which the model is made again: without what only a fit needs."""
    model = dict(settings["model"])
    if issubclass(imported(str(model.get("class_path"))) or object, ImageModule):
        model["init_args"] = {**model.get("init_args", {}), "weights": None}  # with which the fit began
    callbacks = [each for each in as_list(settings["trainer"].get("callbacks")) if _judges_sites(each)]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "devices": 1}
    trainer = {**quiet, "callbacks": callbacks, "accelerator": accelerator}
    if precision := settings["trainer"].get("precision"):
        trainer["precision"] = precision
    return {"model": model, "data": settings["data"], "trainer": trainer}


def _judges_sites(callback: Any) -> bool:
    name = callback.get("class_path") if isinstance(callback, Mapping) else callback
    kind = imported(str(name))
    return isinstance(kind, type) and issubclass(kind, SiteStatistics)


def _file(folder: Path, checkpoint: Path | None) -> Path:
    path = checkpoint or folder / CHECKPOINTS / "best.ckpt"
    if not path.is_file():
        raise InputError(f"there is no {path}; name the checkpoint with --checkpoint")
    return path


def _signature(folder: Path, data: Any) -> dict[str, Any]:
    """What the run has left; of one before there was such a file, what its datamodule knows where its data is here."""
    path = folder / SIGNATURE
    if path.exists():
        try:
            found = json.loads(read_text(path))
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}") from None
        if not isinstance(found, dict):
            raise InputError(f"{path} is damaged: it is not an object of JSON")
        return found
    if not isinstance(data, SiteRecords):
        return {}
    with suppress(InputError):
        _ = data.table
    return data.signature()


def _task(module: LightningModule, signature: Mapping[str, Any]) -> Task | None:
    task, names = own_task(module), signature.get("classes")
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    if isinstance(task, ClassesTask) and fits and len(names or ()) == task.outputs:
        return task.named(names or ())
    return task
