"""How a run is resumed (``lit-dist fit --resume``): which one, from where, and what must be as it was."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from lit_dist.checkpoints.baton import read_checkpoint
from lit_dist.checkpoints.csv_rows import check_rows, put_back, set_aside
from lit_dist.checkpoints.run_folder import LEDGER, SETTINGS, checkpoints_of, newest_checkpoint, read_settings
from lit_dist.checkpoints.run_lock import held as hold_run
from lit_dist.provenance.ledger import Ledger
from lit_dist.provenance.visit_account import find_account
from lit_dist.runs.changed_settings import changed_settings
from lit_dist.runs.make_trainer import as_list
from lit_dist.utils.atomic_write import check_folder, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.signatures import imported

MAY_DIFFER = {
    *("max_epochs", "max_steps", "max_time", "enable_progress_bar", "log_every_n_steps", "logger", "keep"),
    *("num_workers", "persistent_workers", "pin_memory", "ckpt_path", "resume", "weights_only"),
    *("default_root_dir", "folder"),  # places
}
"""Settings, by a part of their names, that may differ when a run is resumed."""

_FIRST_METRIC = ("accuracy", None)
"""The default that SiteEvaluation had, and its default of now, which is the same for classes."""

WITH_FOLDERS = ("CSVLogger", "TensorBoardLogger")
"""The loggers by whose folder a run is found again."""


class Resumption:
    """A run that is to be resumed, by the settings of ``fit`` as the command line has parsed them.

    Attributes:
        run: The run's folder; None if there is nothing to resume.

    Raises:
        InputError: If the settings do not say where runs are.
    """

    def __init__(self, settings: Any) -> None:
        self.run: Path | None = _newest_run(settings)
        self._settings = settings
        self._logs: dict[str, Any] = {}

    def begin(self, stack: ExitStack, patience: float = 0.0) -> None:
        """Hold the run's folder until the stack is closed, and change the settings so that they continue the run.

        The loggers continue in its folder, and its newest whole checkpoint is loaded. Another process has so many
        seconds to let go of the folder.

        Raises:
            BusyError: If another process works on the run.
            InputError: If a checkpoint is damaged and there is no older one, or the ledger is not the run's.
        """
        with ExitStack() as held:
            checkpoint = None
            if self.run is not None and checkpoints_of(self.run):
                if rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # a run's processes are one writer
                    held.enter_context(hold_run(self.run, patience))
                checkpoint = newest_checkpoint(self.run)
            if self.run is None or checkpoint is None:
                rank_zero_info(f"There is no checkpoint to resume from in {self.run or 'any run'}; this is a new run.")
                self.run = None
                return
            self._load(self.run, checkpoint)
            stack.push(held.pop_all())

    def _load(self, run: Path, checkpoint: Path) -> None:
        content = read_checkpoint(checkpoint, with_tensors=False)
        record = find_account(content) if "callbacks" in content else None  # of an ensemble there are none
        if record is not None:
            Ledger(run / LEDGER, record["head"], record["run"])  # which says what is wrong with it
        self._logs = content["logs"]
        self._settings.ckpt_path = str(checkpoint)
        wandb = iter(self._logs["wandb"])
        for kind, arguments in _loggers(self._settings):
            if kind == "WandbLogger":
                arguments.id, arguments.resume = next(wandb, None), "allow"
            elif kind in WITH_FOLDERS or "version" in arguments:
                version = run.name.removeprefix("version_")
                arguments.version = int(version) if version.isdigit() else version

    def restore(self, trainer: Trainer, text: str) -> None:
        """Check the settings, and give the loggers that write CSV files the rows that the run had.

        The settings are the YAML that is saved with a run.

        Raises:
            InputError: If a setting differs that must not, or a file of the run is damaged; nothing was changed then.
        """
        if not trainer.is_global_zero:
            return
        loggers = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        rows = list(zip(loggers, self._logs["rows"], strict=False))
        columns = self._logs.get("columns", [[] for _ in rows])  # an older checkpoint does not name them
        for (logger, number), names in zip(rows, columns, strict=False):
            check_rows(Path(logger.log_dir), number, names)
        self._check_settings(text)
        for logger, number in rows:
            set_aside(Path(logger.log_dir))
            put_back(logger, number)

    def _check_settings(self, text: str) -> None:
        assert self.run is not None
        path = self.run / SETTINGS
        if not path.exists():
            rank_zero_warn(f"{path} is missing, so nobody can tell whether these settings are those that the run had")
        for name, before, now in changed_settings(read_settings(path), yaml.safe_load(text)) if path.exists() else ():
            same_class = name.endswith(".class_path") and imported(str(before)) is imported(str(now)) is not None
            same_default = name.endswith(".init_args.metric") and (before, now) == _FIRST_METRIC
            if not (same_class or same_default) and not MAY_DIFFER & set(name.split(".")):
                raise InputError(
                    f"{name} is {now!r}, but it was {before!r} in {self.run}: resume with the settings of that run"
                    f" (--config {path}), or leave --resume out for a new one"
                )
        with replacing(path) as file:
            file.write(text.encode())


def claim_version(settings: Any) -> Path | None:
    """Give a new run a folder that no other run has, which may begin at the same moment.

    The settings of its logger are changed.

    Returns:
        The folder, which is empty; None if the logger was told which to take, or has none.
    """
    for kind, arguments in _loggers(settings):
        if kind not in WITH_FOLDERS or arguments.get("version") is not None:
            continue
        if (every := arguments.get("flush_logs_every_n_steps", 1)) < 1:
            raise InputError(f"{kind} has flush_logs_every_n_steps={every}, which counts from 1")
        runs = _runs(arguments)
        for number in count(max(_numbered(runs), default=-1) + 1):
            with suppress(FileExistsError):
                _make(folder := runs / f"version_{number}")
                arguments.version = number
                return folder
    return None


def _make(folder: Path) -> None:
    check_folder(folder.parent)
    folder.mkdir(parents=True)


def _loggers(settings: Any) -> Iterator[tuple[str, Any]]:
    for logger in as_list(settings.trainer.logger):
        if hasattr(logger, "class_path"):
            yield logger.class_path.rpartition(".")[2], logger.init_args


def _newest_run(settings: Any) -> Path | None:
    if settings.trainer.logger is False:
        return Path(settings.trainer.default_root_dir or ".")
    for kind, arguments in _loggers(settings):
        if kind not in WITH_FOLDERS:
            continue
        runs, version = _runs(arguments), arguments.get("version")
        if version is not None:
            return runs / (version if isinstance(version, str) else f"version_{version}")
        # The folder of a test or a prediction has a number, too, but nothing to resume from.
        newest_first = sorted(_numbered(runs).items(), reverse=True)
        return next((run for _, run in newest_first if checkpoints_of(run)), None)
    raise InputError(
        "--resume finds a run by the folder of its logger: give one, for example --trainer.logger CSVLogger"
        " --trainer.logger.save_dir runs"
    )


def _runs(arguments: Any) -> Path:
    """The folder of a logger's runs; a program may give fewer arguments than the command line's parser."""
    folder = Path(arguments.get("save_dir") or ".") / (arguments.get("name", "lightning_logs") or "")
    if "\0" in str(folder):
        raise InputError(f"the logger's folder {str(folder)!r} cannot be made: its name has a zero byte")
    return folder


def _numbered(runs: Path) -> dict[int, Path]:
    names = {run: run.name.removeprefix("version_") for run in runs.glob("version_*")}
    return {int(number): run for run, number in names.items() if number.isdecimal()}
