"""The methods of a study's training in words: network, optimizer and schedule, budget, seeds."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.models.tabular_predictor import TabularPredictor
from lit_dist.provenance.ledger import iter_entries
from lit_dist.report.described import counted, described, listed, name_of, value_of
from lit_dist.report.tables import Tables
from lit_dist.study.settings import RESERVED, StudySettings
from lit_dist.utils.signatures import imported

_TRAINER = {
    "accumulate_grad_batches": "gradients were accumulated over {} batches",
    "gradient_clip_val": "gradients were clipped at {}",
    "precision": "the precision was set to {}",
}
_UNTOLD = (
    *(*_TRAINER, *RESERVED, "accelerator", "barebones", "benchmark", "callbacks", "detect_anomaly", "devices"),
    *("enable_autolog_hparams", "enable_checkpointing", "enable_model_summary", "enable_progress_bar"),
    *("inference_mode", "log_every_n_steps", "model_registry", "num_nodes", "num_sanity_val_steps", "plugins"),
    *("profiler", "strategy", "use_distributed_sampler"),
)
"""Settings of the trainer that are told in words, or that change no result."""

_DEFAULT_OPTIMIZER = "lit_dist.classifier._adam"


def training_methods(settings: StudySettings, tables: Tables) -> Iterable[str]:
    """The sentences about network, optimizer, budget and seeds."""
    study, model = settings.study, settings.model
    own = ("optimizer", "lr_scheduler", "lr_scheduler_interval", "lr_scheduler_frequency", "weights")
    yield f"The network was {described(model, without=own, always=('backbone', 'hidden', 'dropout'))}."
    yield from _preparation(model)
    yield from _optimization(settings, tables)
    batch = (settings.data.get("init_args") or {}).get("batch_size")
    size = f", in batches of {batch}" if batch else ""
    kinds = set(tables.results["kind"])
    most = "; single transfer at most as many" if "single_weight_transfer" in kinds else ""
    yield f"A run of all sites had as many optimizer steps as {counted(study.passes, 'pass', 'es')} take{size}{most}."
    trainer = settings.trainer
    told = [text.format(value_of(trainer[name])) for name, text in _TRAINER.items() if trainer.get(name) is not None]
    if told:
        yield f"{listed(told).capitalize()}."
    further = described({"class_path": "lightning.pytorch.Trainer", "init_args": trainer}, without=_UNTOLD)
    if further != "Trainer":
        yield f"Further settings: {further}."
    direction = "lowest" if study.mode == "min" else "highest"
    alone = "; a single-institution model was chosen by its own site's validation records" if "single" in kinds else ""
    yield f"Of each run the model with the {direction} {study.monitor} over all sites in training was tested{alone}."
    drawn = "initial weights, shuffling and all other chance of a run were drawn"
    yield f"From {counted(len(study.seeds), 'seed')} ({', '.join(map(str, study.seeds))}) {drawn}."


def _preparation(model: dict[str, Any]) -> Iterable[str]:
    """What a network of ours does to a table's columns."""
    kind, given = imported(model["class_path"]), model.get("init_args") or {}
    if isinstance(kind, type) and issubclass(kind, TabularPredictor):
        fill = "median" if given.get("ranges") else "mean"
        categories = ", and categories became indicators" if given.get("categorical") else ""
        of = "of the training records of all sites in training"
        yield f"Numeric columns were standardised and gaps filled with the {fill}, {of}{categories}."


def _optimization(settings: StudySettings, tables: Tables) -> Iterable[str]:
    """How the network began, and what moved it; of a module of one's own as far as its runs tell."""
    module, given = name_of(settings.model["class_path"]), settings.model.get("init_args") or {}
    first = f"the weights {value_of(given['weights'])}" if given.get("weights") else "random weights"
    ours = "weights" in given or settings.model["class_path"].startswith("lit_dist.")
    yield f"It began with {first if ours else f'the weights that {module} gives itself'}."
    if optimizer := given.get("optimizer"):
        if optimizer == _DEFAULT_OPTIMIZER or optimizer == {"class_path": _DEFAULT_OPTIMIZER}:
            optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}
        schedule = given.get("lr_scheduler")
        followed = {name.rpartition(".")[2] for name in settings.study.lengths} | {"last_epoch"}
        falls = f"with the schedule {described(schedule, without=followed)}" if schedule else "without a schedule"
        often, unit = given.get("lr_scheduler_frequency") or 1, given.get("lr_scheduler_interval") or "epoch"
        if schedule and (often, unit) != (1, "epoch"):
            falls += f" that advanced after each {counted(often, unit) if often > 1 else unit}"
        yield f"The optimizer was {described(optimizer, always=('lr', 'weight_decay', 'momentum'))}, {falls}."
    else:
        rates = next(filter(None, (_rates(tables.fit(run)) for run in tables.results["run"])), [])
        known = f" The first visit began with the learning rate {listed(rates)}." if rates else ""
        yield f"Optimizer and schedule were those that {module} configures itself.{known}"
    lengths = [f"{name.rpartition('.')[2]} (in {unit})" for name, unit in settings.study.lengths.items()]
    if lengths:
        yield f"{listed(lengths)} followed the length of each run."


def _rates(fit: Path) -> list[str]:
    """The learning rates that a transfer's first visit began with; empty where that is not known."""
    entries = iter_entries(fit / LEDGER) if (fit / LEDGER).exists() else iter(())
    return [f"{rate:g}" for entry in islice(entries, 1) for rate in entry.learning_rates_start]
