"""Does one run of a study: trains, tests the best model, and writes down the result."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from lightning.pytorch.loggers import WandbLogger
from pandas.api.types import is_numeric_dtype
from torch import Tensor

from lit_dist.callbacks import PredictionWriter
from lit_dist.callbacks.ending import ending
from lit_dist.checkpoints.baton import read_checkpoint
from lit_dist.checkpoints.run_folder import CHECKPOINTS, LEDGER, delete_old_checkpoints
from lit_dist.checkpoints.run_lock import held
from lit_dist.provenance.ledger import iter_entries
from lit_dist.provenance.visit_account import find_account
from lit_dist.runs.lightning_cli import build, fit
from lit_dist.study.environment import write_environment
from lit_dist.study.run import Run, read_run, run_path
from lit_dist.tasks.found import task_of_data
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.errors import InputError

RESULT = "result.json"
PREDICTIONS, VALIDATION = "predictions.csv", "validation_predictions.csv"
"""Of the test's records, and of those that the best model was chosen by."""
FIT, FIT_SETTINGS = "fit", "fit.yaml"
_ONE_PROCESS = {"devices": 1}
"""Of the trainer, which would take every GPU that it sees."""


def result_path(study: Path, name: str) -> Path:
    """The file that a finished run leaves."""
    return run_path(study, name) / RESULT


def read_result(study: Path, name: str) -> dict[str, Any]:
    """What a finished run has found.

    Raises:
        InputError: If the file is damaged.
    """
    path = result_path(study, name)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        plain = all(value is None or isinstance(value, str | int | float | list) for value in found.values())
        plain = plain and {"n", "loss"} <= found.keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        plain = False
    if not plain:
        raise _damaged(path, path.parent)
    return found  # type: ignore[no-any-return]


def execute(study: Path, name: str) -> bool:
    """Do a run of a study, or resume it, unless it is finished.

    Returns:
        Whether there was something to do.

    Raises:
        InputError: If there is no such run, another process is doing it, or the members of an ensemble are missing.
    """
    folder = run_path(study, name)
    run = read_run(folder)
    with held(folder):
        if (folder / RESULT).exists():
            return False
        start = time.monotonic()
        result = _average(run, study, folder) if run.members else _train(run, folder)
        result["seconds"] = round(time.monotonic() - start, 1)
        with replacing(folder / RESULT) as file:
            file.write(json.dumps(result, indent=1).encode())
        delete_old_checkpoints(folder / FIT, keep=0)  # nothing resumes from them any more
        return True


def _train(run: Run, folder: Path) -> dict[str, Any]:
    settings = dict(run.config)
    facts = {name: getattr(run, name) for name in ("heuristic", "site", "every_n_epochs", "order", "optimizer_state")}
    facts |= {"every_n_steps": run.every_n_steps} if run.every_n_steps else {}
    watched = {"folder": str(folder), "facts": facts}
    progress = {"class_path": "lit_dist.study.progress.RunProgress", "init_args": watched}
    settings["trainer"] = {
        **_ONE_PROCESS,
        **settings["trainer"],
        "callbacks": [*settings["trainer"]["callbacks"], progress],
        "logger": _loggers(run, folder),
        "default_root_dir": str(folder),
    }
    with replacing(folder / FIT_SETTINGS) as file:
        file.write(yaml.safe_dump(settings, sort_keys=False).encode())
    done = fit(["--config", str(folder / FIT_SETTINGS), "--resume", "--checkpoint.keep=1"])
    trainer: Any = done.trainer
    steps, ended = trainer.global_step, ending(trainer)
    write_environment(trainer, folder)
    best = folder / FIT / CHECKPOINTS / "best.ckpt"
    if not best.exists():
        raise InputError(f"{folder} ended without a best model, since nothing was validated")
    _predict(done, str(best))
    found = {**travels(folder / FIT / LEDGER), "best_cycle": _best_cycle(run, best), "steps": steps, "ended": ended}
    found |= _judge(folder, run, done.datamodule)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(found)
            logger.experiment.finish()
    return found


def _predict(made: Any, checkpoint: str | None = None) -> None:
    """Predict the records of the test, then those of validation, by which a threshold can be chosen."""
    trainer, data = made.trainer, made.datamodule
    how = {"datamodule": data, "ckpt_path": checkpoint, "return_predictions": False}
    trainer.predict(made.model, **how)
    loaders = data.val_dataloader()
    if not isinstance(loaders, Mapping) or not all(_labelled(loader) for loader in loaders.values()):
        return
    writers = [each for each in trainer.callbacks if isinstance(each, PredictionWriter)]
    data.predict_dataloader = data.val_dataloader
    for writer in writers:
        writer.name = Path(VALIDATION).stem
    try:
        trainer.predict(made.model, **how)
    finally:
        del data.predict_dataloader
        for writer in writers:
            writer.name = Path(PREDICTIONS).stem


def _labelled(loader: Any) -> bool:
    """Whether what is predicted of a loader's records can be compared with something."""
    return "label" in getattr(getattr(loader, "dataset", None), "table", ())


def _csv_logger(folder: Path) -> dict[str, Any]:
    return {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "", "version": FIT}}


def _loggers(run: Run, folder: Path) -> list[dict[str, Any]]:
    if run.wandb is None:
        return [_csv_logger(folder)]
    named = {"name": run.name, "job_type": run.heuristic, "save_dir": str(folder)}
    return [_csv_logger(folder), {"class_path": "WandbLogger", "init_args": {**named, **run.wandb}}]


def _average(run: Run, study: Path, folder: Path) -> dict[str, Any]:
    """Predict with the ensemble of the members' best models."""
    settings = ensemble_settings(run, study)
    paths = settings["model"]["init_args"]["checkpoints"]
    own = {"logger": _csv_logger(folder), "default_root_dir": str(folder)}
    settings["trainer"] = {**_ONE_PROCESS, **settings["trainer"], **own}
    made = build(settings)
    _predict(made)
    size = sum(tensor.nbytes for tensor in made.model.state_dict().values())
    found = {"visits": None, "transfers": len(paths), "bytes_sent": size, "best_cycle": None, "steps": 0}
    return {**found, **_judge(folder, run, made.datamodule)}


def ensemble_settings(run: Run, study: Path) -> dict[str, Any]:
    """The settings of an ensemble of a study's runs, with its model.

    Raises:
        InputError: If a member is missing.
    """
    missing = [name for name in run.members if not result_path(study, name).exists()]
    if missing:
        raise InputError(f"{run.name} needs {', '.join(missing)}, which are not finished")
    paths = [str(run_path(study, name) / FIT / CHECKPOINTS / "best.ckpt") for name in run.members]
    member = read_run(run_path(study, run.members[0])).config["model"]["class_path"]
    model = {"class_path": "lit_dist.SiteEnsemble", "init_args": {"checkpoints": paths, "member": member}}
    return {**run.config, "model": model}


def travels(ledger: Path) -> dict[str, Any]:
    """How often the weights were sent, and how many bytes that were."""
    if not ledger.exists():
        return {"visits": None, "transfers": 0, "bytes_sent": 0}
    visits, merged, size, run_id = 0, 0, 0, ""
    for entry in iter_entries(ledger):
        if entry.run != run_id:  # one that was killed before its first checkpoint was begun anew
            visits, merged, run_id = 0, 0, entry.run
        if entry.outcome != "cut short":
            visits, size = visits + 1, entry.bytes or size
            merged += bool(entry.parent)
    # What is merged goes to the site and back; in a chain a visit's end is the next one's beginning.
    transfers = 2 * merged + max(visits - merged - 1, 0)
    return {"visits": visits, "transfers": transfers, "bytes_sent": transfers * size}


def _best_cycle(run: Run, best: Path) -> int | None:
    """The cycle, or the pass over the images where there are no cycles, whose model was the best."""
    if run.kind == "single_weight_transfer":
        return None
    checkpoint = read_checkpoint(best, with_tensors=False)
    account = find_account(checkpoint)
    return account["visit"][1] if account and account["visit"] else int(checkpoint["epoch"])


def _judge(folder: Path, run: Run, data: Any) -> dict[str, Any]:
    path = folder / FIT / PREDICTIONS
    if not path.exists():
        raise InputError(f"{path} was not written: is there no test image at any site, or no predict_step?")
    task = task_of_data(data)
    return judged(task, read_predictions(task, path, run.held_out))


def judged(task: Task, predictions: pd.DataFrame) -> dict[str, Any]:
    """The number of rows of ``predictions.csv``, and the task's measures of them."""
    values = task.judge(*scored(task, predictions))
    return {"n": len(predictions), **{name: float(value) for name, value in values.items()}}


def scored(task: Task, predictions: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """The scores and the targets of the rows of ``predictions.csv``, as the task judges them."""
    found = torch.tensor(predictions[_columns(task, predictions)].to_numpy("float32"))
    return task.scores_of(found), torch.tensor(task.targets(predictions["label"].to_numpy()))


def read_predictions(task: Task, path: Path, site: Any = None) -> pd.DataFrame:
    """Read ``predictions.csv``. Names are text, also a patient ``NA`` or a site ``None``.

    Args:
        task: What is predicted.
        path: The file.
        site: The site whose rows are wanted; those of all by default.

    Raises:
        InputError: If it is missing or damaged.
    """
    names = ("site", "image", "patient", "label")
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(names, str), keep_default_na=False)
        columns = _columns(task, table)
        whole = {*names, *columns} <= set(table) and all(is_numeric_dtype(table[each]) for each in columns)
        whole = whole and bool(np.isfinite(table[columns].to_numpy(np.float64)).all())
        table["label"] = [task.parse_label(text) for text in table["label"]]
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        if path.parent.name == FIT:
            raise _damaged(path, path.parents[1])
        raise InputError(f"{path} is damaged, or no table of predictions of a {task}: predict anew by lit-dist predict")
    return table[table["site"] == site].reset_index(drop=True) if isinstance(site, str) else table


def _columns(task: Task, table: pd.DataFrame) -> list[str]:
    """A module of one's own may know more classes than its data says."""
    classes = sum(name.startswith("probability_") for name in map(str, table))
    return [f"probability_{number}" for number in range(classes)] or task.columns


def _damaged(path: Path, run: Path) -> InputError:
    return InputError(f"{path} is damaged; delete the folder {run}, and the same command does the run again")
