"""The plan of a study: which runs there are, each with its settings."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lit_dist.runs.lightning_cli import own_parts
from lit_dist.runs.make_trainer import as_list
from lit_dist.study.settings import StudySettings
from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.errors import InputError

PLAN = "plan.json"
NO_MATTER = ("num_workers", "persistent_workers", "pin_memory", "enable_progress_bar")
"""Settings that change nothing about a result."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a study.

    Attributes:
        name: What it is called, and its folder: it says what it is, and ends in a hash of its settings.
        heuristic: One of ``HEURISTICS``.
        seed: The run's seed.
        steps: The greatest number of optimizer steps.
        config: The settings for ``lit-dist fit``, but for the loggers; an ensemble's have no model.
        site: Of a single-institution model, the site.
        every_n_epochs: Of cyclical weight transfer, the length of a visit.
        order: Of a transfer, the order of the sites.
        optimizer_state: Of a transfer, what becomes of the optimizer's state.
        members: Of an ensemble, the names of the runs of its members.
        wandb: Arguments of the ``WandbLogger``, if there is to be one.
    """

    name: str
    heuristic: str
    seed: int
    steps: int
    config: dict[str, Any]
    site: str | None = None
    every_n_epochs: int | None = None
    order: str | None = None
    optimizer_state: str | None = None
    members: tuple[str, ...] = ()
    wandb: dict[str, Any] | None = None

    def write(self, study: Path) -> None:
        """Write the run's settings into its folder of a study, unless the same stand there, in whatever order."""
        path = run_path(study, self.name) / PLAN
        text = json.dumps(asdict(self), indent=1)
        known = None
        with suppress(OSError, ValueError):
            known = json.loads(path.read_bytes())
        if known != json.loads(text):
            with replacing(path) as file:
                file.write(text.encode())


def run_path(study: Path, name: str) -> Path:
    """The folder of a run."""
    return study / "runs" / name


def words_of(study: Path, name: str) -> list[str]:
    """The command, without ``lit-dist``, that does one run."""
    return ["compare", "--output", str(study), "--run", name]


def read_run(folder: Path) -> Run:
    """Read what ``Run.write`` wrote.

    Raises:
        InputError: If it is not there.
    """
    try:
        values = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return Run(**{**values, "members": tuple(values["members"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder} has no plan of a run ({error}); lit-dist compare --config ... writes it") from None


def make_plan(settings: StudySettings) -> list[Run]:
    """Lay a study out in runs, in the order in which they are to be trained.

    The collection is prepared, since the number of steps follows from the number of images.

    Raises:
        InputError: If the data has no sites.
    """
    sites = _train_loaders(settings.data)
    if not isinstance(sites, Mapping) or len(sites) < 2:
        raise InputError("a study needs a datamodule with one training loader a site, and two sites at least")
    batches = {site: len(loader) for site, loader in sites.items()}
    pooled = len(_train_loaders(settings.data, centralized=True)) if "central" in settings.study.heuristics else 0
    runs: list[Run] = []
    for seed in settings.study.seeds:
        planner = _Planner(settings, batches, pooled, seed)
        for heuristic in settings.study.heuristics:
            for run in planner.runs(heuristic):
                if run not in runs:
                    runs.append(run)
    return runs


def _train_loaders(settings: dict[str, Any], **changes: Any) -> Any:
    """What the fit will draw from: it alone knows how many batches so many images give."""
    data, _ = own_parts({**settings, "init_args": {**settings["init_args"], **changes}}, {})
    data.prepare_data()
    data.setup("fit")
    return data.train_dataloader()


class _Planner:
    """Makes the runs of one seed."""

    def __init__(self, settings: StudySettings, sites: dict[str, int], pooled: int, seed: int) -> None:
        self.shared = settings
        self.settings = settings.study
        self.sites = sites
        self.seed = seed
        self.steps_a_pass = {site: self._steps(batches) for site, batches in sites.items()}
        self._pooled = self._steps(pooled)
        wandb = self.settings.wandb
        self._wandb = None if wandb is None else {"group": self.settings.collection, **wandb}
        self.steps = self.settings.passes * sum(self.steps_a_pass.values())

    def _steps(self, batches: int) -> int:
        return -(-batches // (self.shared.trainer.get("accumulate_grad_batches") or 1))

    def runs(self, heuristic: str) -> Iterator[Run]:
        make = {
            "central": self._central,
            "single": self._single,
            "ensemble": self._ensemble,
            "single_weight_transfer": self._single_weight_transfer,
            "cyclical_weight_transfer": self._cyclical_weight_transfer,
        }
        yield from make[heuristic]()

    def _central(self) -> Iterator[Run]:
        passes = -(-self.steps // self._pooled)
        yield self._run("central", {"centralized": True}, passes, max_steps=self.steps)

    def _single(self) -> Iterator[Run]:
        for site, steps_a_pass in self.steps_a_pass.items():
            passes = self.settings.passes
            steps = passes * steps_a_pass
            if self.settings.single_budget == "steps":
                passes, steps = -(-self.steps // steps_a_pass), self.steps
            yield self._run("single", {"only_site": site}, passes, max_steps=steps, site=site)

    def _ensemble(self) -> Iterator[Run]:
        members = list(self._single())
        yield from members
        config = {"seed_everything": self.seed, "data": self.shared.data, "trainer": self.shared.trainer}
        name = _name("ensemble", self.seed, {**config, "members": [run.name for run in members]})
        yield Run(name, "ensemble", self.seed, 0, config, members=tuple(run.name for run in members), wandb=self._wandb)

    def _single_weight_transfer(self) -> Iterator[Run]:
        study = self.settings
        plateau = {"monitor": study.monitor, "mode": study.mode, "patience": study.patience}
        # None is visited twice anyhow, so that these two orders are the same.
        orders = dict.fromkeys("shuffled" if order == "no_repeat" else order for order in study.orders)
        for order, state in product(orders, study.optimizer_states):
            options: dict[str, Any] = {"order": order, "optimizer_state": state}
            transfer = {**plateau, "max_epochs_per_site": study.passes, **options}
            yield self._run("single_weight_transfer", {}, study.passes * len(self.sites), transfer, **options)

    def _cyclical_weight_transfer(self) -> Iterator[Run]:
        study = self.settings
        for every, order, state in product(study.every_n_epochs, study.orders, study.optimizer_states):
            options: dict[str, Any] = {"every_n_epochs": every, "order": order, "optimizer_state": state}
            transfer = {**options, "validation": "cycle"}
            yield self._run("cyclical_weight_transfer", {}, study.passes * len(self.sites), transfer, **options)

    def _run(
        self,
        heuristic: str,
        data: dict[str, Any],
        epochs: int,
        transfer: dict[str, Any] | None = None,
        max_steps: int = -1,
        **named: Any,
    ) -> Run:
        steps = self.steps if max_steps < 0 else max_steps
        shared = deepcopy({"model": self.shared.model, "data": self.shared.data, "trainer": self.shared.trainer})
        shared["data"]["init_args"] |= data
        for setting, length in self.settings.lengths.items():
            _put(shared, setting, {"epochs": epochs, "steps": steps}[length])
        callbacks = as_list(shared["trainer"].get("callbacks"))
        if transfer is not None:
            kind = {"single_weight_transfer": "Single", "cyclical_weight_transfer": "Cyclical"}[heuristic]
            callbacks.append({"class_path": f"lit_dist.callbacks.{kind}WeightTransfer", "init_args": transfer})
            if self.settings.site_evaluation != "off":
                every = {"every": self.settings.site_evaluation}
                callbacks.append({"class_path": "lit_dist.callbacks.SiteEvaluation", "init_args": every})
        best = {"monitor": self.settings.monitor, "mode": self.settings.mode, "filename": "best"}
        callbacks.append({"class_path": "ModelCheckpoint", "init_args": {**best, "enable_version_counter": False}})
        shared["trainer"] |= {"max_epochs": epochs, "max_steps": max_steps, "callbacks": callbacks}
        name = _name(heuristic, self.seed, {"seed": self.seed, **shared}, **named)
        config = {"seed_everything": self.seed, **shared}
        return Run(name, heuristic, self.seed, steps, config, wandb=self._wandb, **named)


def _put(tree: Any, name: str, value: int) -> None:
    *parents, last = name.split(".")
    here = tree
    for parent in parents:
        here = here.get(parent) if isinstance(here, dict) else None
    if not isinstance(here, dict) or last not in here:
        raise InputError(f"lengths names {name!r}, but there is no such setting")
    here[last] = value


def _name(heuristic: str, seed: int, settings: dict[str, Any], **named: Any) -> str:
    text = json.dumps(_that_matters(settings), sort_keys=True)
    short = hashlib.sha256(text.encode()).hexdigest()[:8]
    words = [f"every_{value:02d}" if name == "every_n_epochs" else str(value) for name, value in named.items()]
    return "-".join([heuristic, *("".join(c if c.isalnum() or c == "_" else "_" for c in w) for w in words),
                     f"seed_{seed}", short])  # fmt: skip


def _that_matters(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _that_matters(value) for name, value in tree.items() if name not in NO_MATTER}
    return [_that_matters(value) for value in tree] if isinstance(tree, list) else tree
