"""The plan of a study: which runs there are, each with its settings."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import product
from typing import Any

from lightning.pytorch.callbacks import Callback

from lit_dist.callbacks import WeightTransfer
from lit_dist.models.monitored import check_mode
from lit_dist.runs.lightning_cli import own_parts
from lit_dist.study.callback_settings import make_callbacks
from lit_dist.study.heuristics import OWN, Heuristic
from lit_dist.study.run import Run
from lit_dist.study.run_names import run_name
from lit_dist.study.settings import StudySettings
from lit_dist.tasks.found import task_of_data
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError
from lit_dist.visits.plateau_plan import PlateauPlan


def make_plan(settings: StudySettings) -> list[Run]:
    """Lay a study out in runs, in the order in which they are to be trained.

    The collection is prepared, since the number of steps follows from the number of images.

    Raises:
        InputError: If the data has no sites.
    """
    check_mode(study_task(settings), "the study", settings.study.monitor, settings.study.mode)
    return plan_of(settings, _data, make_callbacks)


def plan_of(settings: StudySettings, make_data: Callable[..., Any], make: Callable[..., list[Callback]]) -> list[Run]:
    """The plan, by what gives the datamodule for its settings and changes of them, and the callbacks for theirs.

    Raises:
        InputError: If the data has no sites.
    """
    if not settings.study.leave_one_site_out:
        return _runs(settings, make_data, make)
    sites = getattr(make_data(settings.data), "training_sites", ())
    if len(sites) < 3:
        raise InputError(
            f"leave_one_site_out needs a datamodule of lit_dist with three sites or more, not {len(sites)}"
        )
    without = [(site, _hold_out(settings, site)) for site in sites]
    return [replace(run, held_out=site) for site, rest in without for run in _runs(rest, make_data, make)]


def _hold_out(settings: StudySettings, site: str) -> StudySettings:
    given = settings.data.get("init_args", {})
    arguments = {**given, "external": [*(given.get("external") or []), site]}
    return replace(settings, data={**settings.data, "init_args": arguments})


def _runs(settings: StudySettings, make_data: Callable[..., Any], make: Callable[..., list[Callback]]) -> list[Run]:
    sites = _train_loaders(make_data(settings.data))
    if not isinstance(sites, Mapping) or len(sites) < 2:
        raise InputError("a study needs a datamodule with one training loader a site, and two sites at least")
    batches = {site: len(loader) for site, loader in sites.items()}
    central = any(each.kind == "central" for each in settings.heuristics)
    pooled = len(_train_loaders(make_data(settings.data, centralized=True))) if central else 0
    runs: list[Run] = []
    for seed in settings.study.seeds:
        planner = _Planner(settings, batches, pooled, seed, make)
        for heuristic in settings.heuristics:
            for run in planner.runs(heuristic):
                if run not in runs:
                    runs.append(run)
    return runs


def study_task(settings: StudySettings) -> Task:
    """What is predicted of the records of a study's data."""
    return task_of_data(study_data(settings))


def study_data(settings: StudySettings) -> Any:
    """The datamodule of a study, prepared."""
    return _data(settings.data)


def _data(settings: dict[str, Any], **changes: Any) -> Any:
    data, _ = own_parts({**settings, "init_args": {**settings["init_args"], **changes}}, {})
    data.prepare_data()
    return data


def _train_loaders(data: Any) -> Any:
    """What the fit will draw from: it alone knows how many batches so many images give."""
    data.setup("fit")
    return data.train_dataloader()


class _Planner:
    """Makes the runs of one seed."""

    def __init__(
        self,
        settings: StudySettings,
        sites: dict[str, int],
        pooled: int,
        seed: int,
        make: Callable[..., list[Callback]],
    ) -> None:
        self.shared = settings
        self.settings = settings.study
        self.sites = sites
        self.seed = seed
        self._make = make
        self.steps_a_pass = {site: self._steps(batches) for site, batches in sites.items()}
        self._pooled = self._steps(pooled)
        wandb = self.settings.wandb
        self._wandb = None if wandb is None else {"group": self.settings.collection, **wandb}
        self.steps = self.settings.passes * sum(self.steps_a_pass.values())

    @property
    def _batches_a_step(self) -> int:
        return int(self.shared.trainer.get("accumulate_grad_batches") or 1)

    def _steps(self, batches: int) -> int:
        return -(-batches // self._batches_a_step)

    def runs(self, heuristic: Heuristic) -> Iterator[Run]:
        make = {
            "central": self._central,
            "single": self._single,
            "ensemble": self._ensemble,
            "single_weight_transfer": self._single_weight_transfer,
            "cyclical_weight_transfer": self._cyclical_weight_transfer,
            OWN: self._own,
        }
        yield from make[heuristic.kind](heuristic)

    def _central(self, heuristic: Heuristic) -> Iterator[Run]:
        passes = -(-self.steps // self._pooled)
        yield self._run(heuristic, {"centralized": True}, passes, max_steps=self.steps)

    def _single(self, heuristic: Heuristic) -> Iterator[Run]:
        for site, steps_a_pass in self.steps_a_pass.items():
            passes = self.settings.passes
            steps = passes * steps_a_pass
            if self.settings.single_budget == "steps":
                passes, steps = -(-self.steps // steps_a_pass), self.steps
            yield self._run(heuristic, {"only_site": site}, passes, max_steps=steps, site=site)

    def _ensemble(self, heuristic: Heuristic) -> Iterator[Run]:
        members = list(self._single(self._member(heuristic)))
        yield from members
        callbacks = [*heuristic.beside(self.shared.trainer.get("callbacks")), *heuristic.callbacks]
        trainer = {**self.shared.trainer, **({"callbacks": callbacks} if heuristic.callbacks else {})}
        config = {"seed_everything": self.seed, "data": self.shared.data, "trainer": trainer}
        names = tuple(run.name for run in members)
        name = run_name(heuristic, self.seed, {**config, "members": list(names)})
        base = _base(heuristic)
        yield Run(name, heuristic.name, self.seed, 0, config, members=names, wandb=self._wandb, base=base)

    def _member(self, ensemble: Heuristic) -> Heuristic:
        """The single-institution models with an ensemble's callbacks; the study may compare them, too."""
        if not ensemble.callbacks:
            return Heuristic("single", "single", [])
        own = Heuristic(f"{ensemble.name}, single institution", "single", ensemble.callbacks)
        same = [each for each in self.shared.heuristics if each.kind == "single" and each.callbacks == own.callbacks]
        return next(iter(same), own)

    def _single_weight_transfer(self, heuristic: Heuristic) -> Iterator[Run]:
        study = self.settings
        plateau = {"monitor": study.monitor, "mode": study.mode, "patience": study.patience}
        # None is visited twice anyhow, so that these two orders are the same.
        orders = dict.fromkeys("shuffled" if order == "no_repeat" else order for order in study.orders)
        for order, state in product(orders, study.optimizer_states):
            options: dict[str, Any] = {"order": order, "optimizer_state": state}
            transfer = {**plateau, "max_epochs_per_site": study.passes, **options}
            yield self._run(heuristic, {}, study.passes * len(self.sites), _transfer("Single", transfer), **options)

    def _cyclical_weight_transfer(self, heuristic: Heuristic) -> Iterator[Run]:
        study = self.settings
        lengths = [{"every_n_epochs": every} for every in study.every_n_epochs]
        lengths += [{"every_n_steps": every} for every in study.every_n_steps]
        for length, order, state in product(lengths, study.orders, study.optimizer_states):
            options: dict[str, Any] = {**length, "order": order, "optimizer_state": state}
            epochs, max_steps = study.passes * len(self.sites), -1
            if every := length.get("every_n_steps"):
                epochs, max_steps = self._whole(every * len(self.sites), f"visits of {every} steps")
            transfer = _transfer("Cyclical", {**options, "validation": "cycle"})
            yield self._run(heuristic, {}, epochs, transfer, max_steps, **options)

    def _whole(self, cycle: int, what: str) -> tuple[int, int]:
        """The epochs, of a cycle each, that a budget is made of, and the step that cuts the last one short, or -1."""
        self._check_cycle(cycle, what)
        return -(-self.steps // cycle), self.steps if self.steps % cycle else -1

    def _check_cycle(self, cycle: int, what: str) -> None:
        if cycle > self.steps:
            raise InputError(
                f"{what} make cycles of {cycle} steps, but the budget of passes={self.settings.passes} is {self.steps}"
                " steps, so that nothing would be validated: take more passes, or shorter visits"
            )

    def _own(self, heuristic: Heuristic) -> Iterator[Run]:
        """The run of callbacks that have a transfer of their own, for as many steps as all others."""
        made = self._make(heuristic.callbacks, repr(heuristic.name))
        transfer = next(each for each in made if isinstance(each, WeightTransfer))
        transfer.seed = self.seed if transfer.seed is None else transfer.seed
        epochs, steps = self._epochs(transfer, heuristic.name)
        given = {name: getattr(transfer, name, None) for name in ("every_n_epochs", "every_n_steps", "optimizer_state")}
        order = getattr(transfer, "order", None)
        options = {**given, "order": ", ".join(map(str, order)) if isinstance(order, list) else order}
        # Visits that begin with a merge continue its schedule beside each other.
        beside = len(self.sites) if transfer.itinerary(list(self.sites)).merges else 1
        most = -1 if steps == self.steps else self.steps
        yield self._run(heuristic, {}, epochs, None, most, beside=beside, **options)

    def _epochs(self, transfer: WeightTransfer, name: str) -> tuple[int, int]:
        """How many of its epochs make the budget, and how many steps these are."""
        try:
            plan = transfer.make_plan(transfer.itinerary(list(self.sites)))
        except InputError as error:
            raise InputError(f"{name!r}: {error}") from None
        if isinstance(plan, PlateauPlan):  # it ends by itself
            return self.settings.passes * len(self.sites), 0

        def length(epoch: int) -> int:
            batches = [each.batches or self.sites[each.site] for each in plan.epoch(epoch, self._batches_a_step)]
            return sum(map(self._steps, batches))

        self._check_cycle(sum(map(length, range(plan.epochs_a_cycle))), f"the visits of {name!r}")
        epochs = steps = 0
        while steps < self.steps:
            epochs, steps = epochs + 1, steps + length(epochs)
        return epochs, steps

    def _run(
        self,
        heuristic: Heuristic,
        data: dict[str, Any],
        epochs: int,
        transfer: dict[str, Any] | None = None,
        max_steps: int = -1,
        beside: int = 1,
        **named: Any,
    ) -> Run:
        steps = self.steps if max_steps < 0 else max_steps
        shared = deepcopy({"model": self.shared.model, "data": self.shared.data, "trainer": self.shared.trainer})
        shared["data"]["init_args"] |= data
        for setting, length in self.settings.lengths.items():
            _put(shared, setting, {"epochs": epochs, "steps": steps}[length] // beside)
        callbacks = heuristic.beside(shared["trainer"].get("callbacks"))
        callbacks += [*([transfer] if transfer else []), *deepcopy(heuristic.callbacks)]
        evaluated = any(each["class_path"] == _EVALUATION for each in heuristic.callbacks)
        travels = transfer is not None or heuristic.kind == OWN
        if travels and not evaluated and self.settings.site_evaluation != "off":
            callbacks.append({"class_path": _EVALUATION, "init_args": {"every": self.settings.site_evaluation}})
        best = {"monitor": self.settings.monitor, "mode": self.settings.mode, "filename": "best"}
        callbacks.append({"class_path": "ModelCheckpoint", "init_args": {**best, "enable_version_counter": False}})
        shared["trainer"] |= {"max_epochs": epochs, "max_steps": max_steps, "callbacks": callbacks}
        words = {} if heuristic.kind == OWN else named
        name = run_name(heuristic, self.seed, {"seed": self.seed, **shared}, **words)
        config = {"seed_everything": self.seed, **shared}
        base = _base(heuristic)
        return Run(name, heuristic.name, self.seed, steps, config, wandb=self._wandb, base=base, **named)


_EVALUATION = "lit_dist.callbacks.SiteEvaluation"


def _transfer(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": f"lit_dist.callbacks.{kind}WeightTransfer", "init_args": settings}


def _base(heuristic: Heuristic) -> str | None:
    return None if heuristic.kind == heuristic.name else heuristic.kind


def _put(tree: Any, name: str, value: int) -> None:
    *parents, last = name.split(".")
    here = tree
    for parent in parents:
        here = here.get(parent) if isinstance(here, dict) else None
    if not isinstance(here, dict) or last not in here:
        raise InputError(f"lengths names {name!r}, but there is no such setting")
    here[last] = value
