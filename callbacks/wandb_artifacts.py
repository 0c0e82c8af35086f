"""WandbArtifacts: files of a finished run go to Weights & Biases, if each is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from typing_extensions import override

from lit_dist.checkpoints.run_folder import LEDGER, run_folder
from lit_dist.utils.errors import InputError

if TYPE_CHECKING:
    import wandb


class WandbArtifacts(Callback):
    """Uploads what is asked for of a finished fit, as artefacts of its run at Weights & Biases; no other file, ever.

    It takes a ``WandbLogger``. Where that is offline, the files are copied beside the run, and ``wandb sync`` uploads
    them with it.

    Args:
        model: Whether to upload the best model, as ``ModelCheckpoint`` keeps it. What a network has learnt of single
            patients may be read out of its weights.
        ledger: Whether to upload the ledger: sites' names, their numbers of images, metrics and hashes; neither images
            nor patients.

    Raises:
        InputError: If nothing is asked for; when the fit starts, if there is no ``WandbLogger``.
    """

    takes_part = False

    def __init__(self, model: bool = False, ledger: bool = False) -> None:
        if not (model or ledger):
            raise InputError("WandbArtifacts uploads nothing unasked: set model or ledger to true, or leave it out")
        self.model = model
        self.ledger = ledger

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # The trainer of a federation's site has no loggers at all; the server's has.
        if stage == "fit" and trainer.loggers and not _loggers(trainer):
            raise InputError("WandbArtifacts needs a WandbLogger: --trainer.logger+=WandbLogger")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        wanted = {"model": Path(best) if self.model and best else None}
        wanted["ledger"] = run_folder(trainer) / LEDGER if self.ledger else None
        for logger in _loggers(trainer):
            for kind, path in wanted.items():
                if path is not None and path.is_file():
                    _upload(logger.experiment, kind, path)


def _loggers(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _upload(run: "wandb.Run", kind: str, path: Path) -> None:
    import wandb

    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    artifact.add_file(str(path))
    run.log_artifact(artifact)
