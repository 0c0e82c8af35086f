"""Export: a trained network as files that torch alone reads, with a card of what is known of it."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch

from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import LEDGER, SPLITS
from lit_dist.export.model_card import as_markdown
from lit_dist.export.programs import Exported, exported, save
from lit_dist.export.trained_study_run import load_study_run
from lit_dist.provenance.ledger import iter_entries
from lit_dist.provenance.run_settings import versions
from lit_dist.report.bootstrap import patients_drawn, percentiles
from lit_dist.report.predicted_records import check_records, labelled
from lit_dist.runs.make_trainer import as_list
from lit_dist.runs.site_layers import site_layers
from lit_dist.runs.trained import TrainedRun
from lit_dist.study.execute import PREDICTIONS, judged, read_predictions, scored
from lit_dist.tasks.found import task_of
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import file_sha256, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.text_table import read_text_table

WEIGHTS, PROGRAM, CARD = "model.safetensors", "model.pt2", "card"
DRAWS = 1000


def export(
    run: Path, checkpoint: Path | None, output: Path, predictions: Path | None = None, site: str | None = None
) -> list[Path]:
    """Write a run's model: its weights, the whole as a program, and a card as JSON and Markdown.

    Args:
        run: The run's folder.
        checkpoint: The file with the weights; the run's ``best.ckpt`` by default.
        output: The folder to write into.
        predictions: A ``predictions.csv`` of the same weights, which the card judges; the run's own by default.
        site: The site whose batch normalisation the model is to have, where the run has some of each site's own.

    Returns:
        What was written.

    Raises:
        InputError: If the folder has no such run, the weights do not fit, the module is none of images or tables, the
            run has nothing of the site, or the predictions are not those of its test records.
    """
    if predictions is not None and not predictions.is_file():
        raise InputError(f"there is no {predictions}")
    trained = load_study_run(run, checkpoint, accelerator="cpu")
    layers = site_layers(trained, site, False, lambda images: []) if site is not None else nullcontext("")
    trained.module.float()  # what goes in is converted to that
    with layers as statistics:
        made = exported(trained)
        card = _card(trained, made, statistics, predictions or trained.folder / PREDICTIONS)
        output.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in made.weights.items()}
        with replacing(output / WEIGHTS) as file:
            file.write(safetensors.torch.save(weights, {"format": "pt", "sha256": card["weights"]["fingerprint"]}))
        save(made, output / PROGRAM)
    card["files"] = {name: file_sha256(output / name) for name in (WEIGHTS, PROGRAM)}
    cards = {f"{CARD}.json": json.dumps(card, indent=1, ensure_ascii=False), f"{CARD}.md": as_markdown(card)}
    for name, text in cards.items():
        with replacing(output / name) as file:
            file.write(text.encode())
    return [output / name for name in (WEIGHTS, PROGRAM, *cards)]


def _card(run: TrainedRun, made: Exported, statistics: str, found: Path) -> dict[str, Any]:
    task = run.task or task_of(run.module)
    fingerprinted, size = fingerprint(run.module.state_dict())
    return {
        "task": str(task),
        "classes": list(getattr(task, "class_names", [])),
        "predictions": task.columns,
        "input": dict(made.inputs),
        "network": {**made.network, **({"statistics": statistics} if statistics else {})},
        "weights": {
            "fingerprint": fingerprinted,
            "bytes": size,
            "checkpoint": run.checkpoint.name if run.checkpoint else None,
        },
        "training": _training(run.folder, run.settings),
        "records_by_site": _records(run.folder, task),
        "test": _test(run.folder, found, task),
        "versions": versions(),
        "intended_use": "",
    }


def _training(run: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    entries = list(iter_entries(run / LEDGER)) if (run / LEDGER).exists() else []
    callbacks = [each["class_path"].rpartition(".")[2] for each in as_list(settings["trainer"].get("callbacks"))]
    last = entries[-1] if entries else None
    return {
        "data": settings["data"]["class_path"].rpartition(".")[2],
        "callbacks": callbacks,
        "seed": settings.get("seed_everything"),
        "visits": len(entries) or None,
        "run": last.run if last else None,
        "settings_sha256": last.settings if last else None,
        "ledger_head": last.sha256 if last else None,
    }


def _records(run: Path, task: Task) -> list[dict[str, Any]]:
    path = run / SPLITS
    if not path.exists():
        return []
    table = read_text_table(path)
    rows = []
    for site, own in table.groupby("site", sort=False):
        counts = own["split"].value_counts()
        labels = np.array([task.parse_label(text) for text in own.loc[own["split"] == "train", "label"]], object)
        rows.append(
            {
                "site": site,
                "patients": int(own["patient"].nunique()),
                **{split: int(counts.get(split, 0)) for split in ("train", "val", "test")},
                **{f"training: {name}": value for name, value in task.summary(labels).items()},
            }
        )
    return rows


def _test(run: Path, path: Path, task: Task) -> list[dict[str, Any]]:
    """The task's measures of saved predictions, with intervals by a bootstrap over patients."""
    if not path.exists():
        return []
    table = read_predictions(task, path)
    if (run / SPLITS).exists():
        check_records(table, path, labelled(read_text_table(run / SPLITS), task), "test")
    parts = [("all sites", table), *table.groupby("site", sort=False)]
    return [{"site": str(site), **_judged(task, rows)} for site, rows in parts]


def _judged(task: Task, rows: pd.DataFrame) -> dict[str, Any]:
    values = judged(task, rows)
    low, high = interval(task, rows)
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()} | {
        f"{task.primary}_interval": [None if np.isnan(end) else round(end, 4) for end in (low, high)]
    }


def interval(task: Task, rows: pd.DataFrame, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the task's first measure, by a bootstrap over patients (percentiles).

    Args:
        task: What is judged.
        rows: Those of ``predictions.csv``.
        draws: The number of resamples.
    """
    scores, targets = scored(task, rows)
    patients = np.unique(rows["patient"], return_inverse=True)[1]
    drawn = patients_drawn(patients, draws)
    return percentiles(
        np.concatenate([task.resampled(task.primary, scores, targets, often).numpy() for often in drawn])
    )
