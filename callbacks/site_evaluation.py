"""SiteEvaluation: how the model that travels does on every site, after every visit or cycle."""

import csv
import io
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from typing_extensions import override

from lit_dist.callbacks.fit_checks import check_fit
from lit_dist.callbacks.heuristics.find_transfer import find_transfer
from lit_dist.callbacks.site_judge import all_batches, better_by_name, evaluating, find_logged, judge, look
from lit_dist.callbacks.site_statistics import find_statistics
from lit_dist.checkpoints.csv_rows import kept_rows
from lit_dist.checkpoints.run_folder import run_folder
from lit_dist.models.metrics import better
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.found import own_task
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import check_kind, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import judged_source
from lit_dist.utils.outside_loops import on_device
from lit_dist.utils.setting_checks import check_choice

Moment = Literal["off", "visit", "cycle"]

MATRIX = "site_matrix.csv"


class SiteEvaluation(Callback):
    """Evaluates the model on every site's records at the end of visits: what it forgets becomes visible.

    It leaves ``site_matrix.csv`` in the run's folder: one row a site that was evaluated on after a visit, with the
    metric, the best value so far at that site minus that of now (``forgetting``), and the mean absolute change from one
    evaluation to the next so far (``fluctuation``). It logs ``site_<metric>/<site>``, ``forgetting`` and
    ``fluctuation`` (their means over the sites). Source of the two measures: Sheller et al., "Federated learning in
    medicine", Scientific Reports 2020, https://doi.org/10.1038/s41598-020-69250-1, who saw both in cyclical transfer.

    A module with a ``task`` is judged by it: its ``predict_step`` must give what the task calls predictions, and a
    batch be ``(inputs, targets)``. Any other is judged by its own ``validation_step``, or ``test_step``, and the hooks
    around it, whatever its batches are: by what it logs, each batch counted by its records, or by the loss that it
    returns. It leaves the module's modes, buffers, metrics and lists and torch's generators as they were, so the
    weights of a run are the same with and without it. Put it after the transfer callback.

    Args:
        every: ``"visit"``, ``"cycle"`` or ``"off"``.
        split: Whether to evaluate on the validation or the test records.
        metric: What to look at: one of the measures of the module's task, by default the one that it is first judged
            by; or one of the names that the module logs, by default its loss. ``"dice"`` finds ``val_dice`` and
            ``val/dice``.
        mode: Whether the metric improves by falling (``"min"``) or rising (``"max"``); needed where neither the task
            nor the metric's name says so.

    Raises:
        InputError: If there is no transfer callback before it, the loaders are not a dict by site, or the module does
            not log the metric.
    """

    takes_part = False

    def __init__(
        self,
        every: Moment = "cycle",
        split: Literal["val", "test"] = "val",
        metric: str | None = None,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        check_choice(get_args(Moment), every=every)
        check_choice(("val", "test"), split=split)
        self.every = every
        self.split = split
        check_choice(("min", "max", None), mode=mode)
        self.metric = metric or ""
        self.mode = mode
        self._task: Task | None = None
        self._begin()

    def _begin(self) -> None:
        self.seconds = 0.0
        self._before = 0.0  # seconds of the fit, before it was resumed
        self._started = time.monotonic()
        self._visits = 0
        self._rows = 0
        self._in_file: tuple[Path, int] | None = None  # where this fit, or the one before it, wrote, and how many rows
        self._sites: dict[str, tuple[float, float, float]] = {}  # the best and the last value, and the sum of changes
        self._times = 0

    # -- when --------------------------------------------------------------------------------------------------------

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_fit(trainer)
        if stage == "fit" and self.every != "off":
            transfer, callbacks = find_transfer(trainer), trainer.callbacks  # type: ignore[attr-defined]
            if transfer is None or callbacks.index(transfer) > callbacks.index(self):
                raise InputError("SiteEvaluation stands after a transfer callback in the list of callbacks")
            self._transfer = transfer
            self._task = own_task(pl_module)
            self.metric = self.metric or (self._task.at_a_site if self._task else "loss")
            self._choose_mode()

    def _choose_mode(self) -> None:
        if self._task is None:
            self._better = self.mode or better_by_name(self.metric)
            if self._better is None:
                raise InputError(
                    f"SiteEvaluation: whether {self.metric!r} improves by falling or by rising is not known: set mode"
                )
            return
        judged = [name for name, measure in self._task.measures.items() if measure.better]
        if self.metric not in judged:
            raise InputError(f"SiteEvaluation: metric={self.metric!r} is not one of {', '.join(judged)}")
        self._better = better(self._task, self.metric)

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before the first step whether a module that is judged by what it logs logs the metric.

        Raises:
            InputError: If it does not.
        """
        if self._task is None:
            site, loader = next(iter(self._loaders(trainer, pl_module).items()))
            found = look(trainer, pl_module, site, loader, self.split)
            if not found.size:
                return
            logged = found.values
            gives_probabilities = is_overridden("predict_step", pl_module) and self.metric in Classification.measures
            if find_logged(self.metric, logged) is None and gives_probabilities:
                self._task = Classification()
                self._choose_mode()
            else:
                self.find(logged)

    def find(self, names: Collection[str]) -> str:
        """The metric's name among those that the module logs.

        Raises:
            InputError: If it is not there.
        """
        name = find_logged(self.metric, names)
        if name is None:
            known = ", ".join(names) or "nothing"
            raise InputError(f"SiteEvaluation: metric={self.metric!r} is not one of what the module logs: {known}")
        return name

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self._begin()
        self._started = time.monotonic() - self._before
        if self.every != "off" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = run_folder(trainer) / MATRIX
            if trainer.is_global_zero and self._in_file != (path, self._rows):  # not in each fit of a federation
                self._keep_rows(path)
                self._in_file = (path, self._rows)
        if self.every != "off":
            self.check(trainer, pl_module)
        self._look(trainer, pl_module)  # a visit that ended elsewhere, in a federation

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._look(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, pl_module)  # a visit whose end was found by a validation

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every == "off" or self._transfer.visits_ended == self._visits:
            return
        self._visits = self._transfer.visits_ended
        cycle = self._transfer.itinerary(self._transfer.sites).visits_a_cycle  # an order may leave sites out
        if self.every == "cycle" and self._visits % cycle:
            return
        start = time.monotonic()
        self._evaluate(trainer, pl_module)
        self.seconds += time.monotonic() - start

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every == "off" or not self._times:
            return
        share = 100 * self.seconds / max(time.monotonic() - self._started, 1e-9)
        rank_zero_info(f"SiteEvaluation: {self._times} evaluations on every site took {share:.1f} % of the fit's time")
        path = run_folder(trainer) / MATRIX
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if isinstance(logger, WandbLogger):
                rows = [[int(row[0]), int(row[1]), *row[2:4], *map(float, row[4:])] for row in _read(path)]
                logger.log_table("site_matrix", columns=_COLUMNS, data=rows)

    # -- what --------------------------------------------------------------------------------------------------------

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = self.values(trainer, pl_module)
        if not values:
            return
        visit = self._transfer.visit
        assert visit is not None
        rows = []
        sign = -1 if self._better == "min" else 1
        for site, value in values.items():
            best, last, changes = self._sites.get(site, (value, value, 0.0))
            changes += abs(value - last)
            self._sites[site] = (max(value, best, key=lambda each: sign * each), value, changes)
            fluctuation = changes / self._times if self._times else 0.0
            rows.append(
                [visit.number, visit.cycle, visit.site, site, value, max(sign * (best - value), 0.0), fluctuation]
            )
        self._times += 1
        self._write(trainer, rows)

    def values(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """The metric on each site's images."""
        loaders = self._loaders(trainer, pl_module)
        statistics = find_statistics(trainer)
        values = {}
        for site, loader in loaders.items():
            own = statistics.at_site(trainer, pl_module, site, loader) if statistics else nullcontext()
            with evaluating(trainer, pl_module, self.split), own:
                value = self._value(trainer, pl_module, site, loader)
            if value is not None:
                values[site] = value
        return values

    def _loaders(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, Any]:
        data, name = judged_source(trainer, self.split), f"{self.split}_dataloader"
        loaders: Any = data
        if isinstance(data, LightningDataModule | LightningModule):
            loaders = getattr(data, name)() if is_overridden(name, data) else None
        if not isinstance(loaders, Mapping) or not loaders:
            raise InputError(
                f"SiteEvaluation needs a {name}() of the datamodule or the module that gives one loader a site, or a"
                " dict of them that is passed to fit"
            )
        return loaders

    def _value(self, trainer: Trainer, pl_module: LightningModule, site: str, loader: Any) -> float | None:
        """The metric of a site; None where there is no record."""
        if self._task is None:
            found = judge(trainer, pl_module, site, all_batches(loader), self.split)
            return found.values[self.find(found.values)] if found.size else None
        probabilities: list[Tensor] = []
        labels: list[Tensor] = []
        for number, batch in enumerate(loader):
            images, truth = on_device(trainer, batch)
            with trainer.precision_plugin.predict_step_context():
                probabilities.append(pl_module.predict_step((images, truth), number))
            labels.append(truth)
        if not labels:
            return None
        task = self._task
        return float(task.judge(task.scores_of(torch.cat(probabilities).float()), torch.cat(labels))[self.metric])

    def _write(self, trainer: Trainer, rows: list[list[Any]]) -> None:
        self._rows += len(rows)
        path = run_folder(trainer) / MATRIX
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        check_kind(path)
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(_COLUMNS)
            writer.writerows(rows)
        self._in_file = (path, self._rows)
        metrics = {f"site_{self.metric}/{row[3]}": row[4] for row in rows}
        metrics |= {name: sum(row[place] for row in rows) / len(rows) for name, place in _MEANS.items()}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)

    # -- resuming ---------------------------------------------------------------------------------------------------

    def _keep_rows(self, path: Path) -> None:
        """Of a run that is resumed, keep the rows that were there when the checkpoint was written."""
        rows = kept_rows(path, self._rows, lambda path: _read(path)[: self._rows])
        self._rows = len(rows)
        if not rows:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO(newline="")
        csv.writer(text).writerows([_COLUMNS, *rows])
        with replacing(path) as file:  # a kill here loses no row
            file.write(text.getvalue().encode())

    @override
    def state_dict(self) -> dict[str, Any]:
        counts = (self._visits, self._rows, self._times)
        seconds = (self.seconds, time.monotonic() - self._started)
        return {"sites": dict(self._sites), "counts": counts, "seconds": seconds}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._visits, self._rows, self._times = state_dict["counts"]
        self.seconds, self._before = state_dict["seconds"]
        self._sites = dict(state_dict["sites"])


_COLUMNS = ["visit", "cycle", "visited", "site", "value", "forgetting", "fluctuation"]
_MEANS = {"forgetting": 5, "fluctuation": 6}


def _read(path: Path) -> list[list[str]]:
    check_kind(path)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]
