"""How ``lit-dist fit --resume`` goes on with a run: which one, from where, and what must be as it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info

from lit_dist.baton import read_checkpoint
from lit_dist.callbacks.csv_rows import put_back, set_aside
from lit_dist.errors import InputError
from lit_dist.files import replacing
from lit_dist.run_folder import SETTINGS, checkpoints_of, newest_checkpoint
from lit_dist.yaml_text import read_yaml

MAY_DIFFER = {
    *("max_epochs", "max_steps", "max_time", "enable_progress_bar", "log_every_n_steps", "logger", "keep"),
    *("num_workers", "persistent_workers", "pin_memory", "ckpt_path", "resume", "weights_only"),
}
"""Settings, by a part of their names, that a run may go on with in another way."""

WITH_FOLDERS = ("CSVLogger", "TensorBoardLogger")
"""The loggers by whose folder a run is found again."""


class Resumption:
    """A run that is to be gone on with.

    Args:
        settings: The settings of ``fit``, as the command line parsed them. Where there is a run to go on with, they
            are changed: the loggers go on in its folder, and its newest whole checkpoint is loaded.

    Attributes:
        run: The run's folder; None if there is nothing to go on with.

    Raises:
        InputError: If the settings do not say where runs are, or a checkpoint is damaged and there is no older one.
    """

    def __init__(self, settings: Any) -> None:
        self.run: Path | None = _newest_run(settings)
        self.checkpoint = newest_checkpoint(self.run) if self.run else None
        if self.run is None or self.checkpoint is None:
            rank_zero_info(f"There is no checkpoint to go on from in {self.run or 'any run'}; this is a new run.")
            self.run = None
            return
        self._logs = read_checkpoint(self.checkpoint, with_tensors=False)["logs"]
        settings.ckpt_path = str(self.checkpoint)
        wandb = iter(self._logs["wandb"])
        for kind, arguments in _loggers(settings):
            if kind == "WandbLogger":
                arguments.id, arguments.resume = next(wandb, None), "allow"
            elif "version" in arguments:
                version = self.run.name.removeprefix("version_")
                arguments.version = int(version) if version.isdigit() else version

    def check_settings(self, text: str) -> None:
        """Compare the settings with those that the run has had.

        Args:
            text: The settings as YAML, as they are saved with a run.

        Raises:
            InputError: If one differs that must not.
        """
        assert self.run is not None
        path = self.run / SETTINGS
        if not path.exists():
            return
        before, now = dict(_flat(read_yaml(path))), dict(_flat(yaml.safe_load(text)))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name) and not MAY_DIFFER & set(name.split(".")):
                raise InputError(
                    f"{name} is {now.get(name)!r}, but it was {before.get(name)!r} in {self.run}: go on with the"
                    f" settings of that run (--config {path}), or leave --resume out for a new one"
                )
        with replacing(path) as file:
            file.write(text.encode())

    def restore_logs(self, trainer: Trainer) -> None:
        """Give the loggers that write CSV files the rows that the run had when the checkpoint was written."""
        if not trainer.is_global_zero:
            return
        loggers = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        for logger, rows in zip(loggers, self._logs["rows"], strict=False):
            set_aside(Path(logger.log_dir))
            put_back(logger, rows)


def _loggers(settings: Any) -> Iterator[tuple[str, Any]]:
    loggers = settings.trainer.logger
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if hasattr(logger, "class_path"):
            yield logger.class_path.rpartition(".")[2], logger.init_args


def _newest_run(settings: Any) -> Path | None:
    if settings.trainer.logger is False:
        return Path(settings.trainer.default_root_dir or ".")
    for kind, arguments in _loggers(settings):
        if kind not in WITH_FOLDERS:
            continue
        runs = Path(arguments.save_dir) / (arguments.name or "")
        if arguments.version is not None:
            named = arguments.version if isinstance(arguments.version, str) else f"version_{arguments.version}"
            return runs / named
        numbers = [path.name.removeprefix("version_") for path in runs.glob("version_*")]
        numbered = (runs / f"version_{number}" for number in numbers if number.isdigit())
        # The folder of a test or a prediction has a number, too, but nothing to go on from.
        return max((run for run in numbered if checkpoints_of(run)), key=_number, default=None)
    raise InputError(
        "--resume finds a run by the folder of its logger: give one, for example --trainer.logger CSVLogger"
        " --trainer.logger.save_dir runs"
    )


def _number(run: Path) -> int:
    return int(run.name.removeprefix("version_"))


def _flat(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested settings by their dotted names."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, tree
