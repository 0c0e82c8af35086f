"""Trains one visit of a run again, from the baton that came in, and compares the weights that come out.

With the last visit of a round, the merge after it is repeated, too.
"""

import tempfile
import warnings
from contextlib import suppress
from dataclasses import replace
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from typing_extensions import override

from lit_dist.callbacks.baton_writer import baton_path, local_path, weights_path
from lit_dist.callbacks.heuristics.find_transfer import find_transfer
from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.callbacks.optimizer_states import put_state
from lit_dist.checkpoints.baton import fingerprint, read_checkpoint
from lit_dist.checkpoints.run_folder import LEDGER, SETTINGS, read_settings
from lit_dist.provenance.entry import PASSED, Entry
from lit_dist.provenance.ledger import iter_entries, iter_lines
from lit_dist.provenance.merge import Merge
from lit_dist.provenance.run_settings import RULE, versions
from lit_dist.provenance.visit_account import find_merging
from lit_dist.runs.lightning_cli import PARTS, build
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_bounds import same
from lit_dist.visits.running_mean import RunningMean
from lit_dist.visits.visit_callback import visit_callbacks


def replay(run: str | Path, visit: int) -> str:
    """Train a visit again, merge again what was merged after it, and compare.

    The weights are the same only with the same programs, hardware and number of threads.

    Args:
        run: The run's folder, with the ``config.yaml`` and the batons that ``lit-dist fit`` left.
        visit: The visit's number.

    Returns:
        That the weights are the same, as text.

    Raises:
        InputError: If they are not, or there is no such visit, configuration or baton.
    """
    run = Path(run)
    recorded = [entry for entry in iter_entries(run / LEDGER) if entry.visit == visit]
    if [entry.outcome for entry in recorded] != ["trained"]:
        raise InputError(f"{run / LEDGER} has no visit {visit} that was trained in one piece")
    merge, passed = _following(run / LEDGER, recorded[0])
    with tempfile.TemporaryDirectory() as folder:
        again = _train(run, recorded[0], Path(folder), merge, passed)
        merged = next((line for line in iter_lines(Path(folder) / LEDGER) if isinstance(line, Merge)), None)
    facts = [(entry.sha256_in, entry.sha256_out, entry.settings) for entry in (again, recorded[0])]
    if facts[0] != facts[1]:
        raise InputError(_difference(recorded[0], again))
    said = f"Visit {visit} at {again.site!r}, trained again, ended with the same weights: {again.sha256_out}"
    if merge is None:
        return said
    if merged is None or not merged.same_visit(replace(merge, run=merged.run)):
        raise InputError(_other_merge(merge, merged))
    return f"{said}\nCycle {merge.cycle}, merged again, ended with the same weights: {merged.sha256_out}"


def _following(ledger: Path, recorded: Entry) -> tuple[Merge | None, list[Entry]]:
    """The merge after a visit, if no other is trained before it, and the visits in between that were left out."""
    passed: list[Entry] = []
    for line in islice(dropwhile(lambda line: line != recorded, iter_lines(ledger)), 1, None):
        if isinstance(line, Merge):
            return line, passed
        if not isinstance(line, Entry) or line.sha256_in != line.sha256_out or line.outcome not in PASSED:
            break
        passed.append(line)
    return None, []


def _train(run: Path, recorded: Entry, folder: Path, merge: Merge | None, passed: list[Entry]) -> Entry:
    config = run / SETTINGS
    if not config.exists():
        raise InputError(f"there is no {config}; only a run of lit-dist fit can be repeated")
    found = read_settings(config, ("model", "data", "trainer"))
    settings = {name: value for name, value in found.items() if name in PARTS}
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "", "version": ""}}
    settings["trainer"] |= {"logger": logger, "default_root_dir": str(folder), "enable_progress_bar": False}
    command = build(settings)
    trainer: Any = command.trainer
    transfer = find_transfer(trainer)
    if transfer is None:
        raise InputError(f"{config} has no transfer callback, so there are no visits to repeat")
    batons = run / (transfer.baton_dir or "")
    stayed: dict[str, Any] = {}
    baton = None  # a run begins with weights drawn from its seed, which the configuration has
    if recorded.visit > 0:
        baton, stayed = _came_in(run, transfer, recorded)
        if merge is not None:
            _check_sums(batons, merge, read_checkpoint(baton))
    if transfer.baton_dir and (merge is not None or weights_path(batons, recorded.visit).exists()):
        _kept(batons, recorded.visit, recorded.sha256_out)
    transfer.baton_dir = None
    transfer.left_out = [entry.site for entry in passed]
    trainer.callbacks[:] = [callback for callback in trainer.callbacks if not isinstance(callback, Checkpoint)]
    trainer.callbacks.append(_OneVisit(recorded, passed[-1] if passed else recorded, transfer, stayed))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the fit has ended within a round")
        trainer.fit(command.model, datamodule=command.datamodule, ckpt_path=baton)
    again = next(entry for entry in iter_entries(folder / LEDGER) if entry.visit == recorded.visit)
    older: list[str] = []
    for rule in range(1, RULE):
        with suppress(TypeError, ValueError):  # what that rule could not hash
            older.append(transfer.settings_by(rule))
    return replace(again, settings=recorded.settings) if recorded.settings in older else again


def _came_in(run: Path, transfer: WeightTransfer, recorded: Entry) -> tuple[Path, dict[str, Any]]:
    """The baton that came in, and what had stayed at the site."""
    folder = run / (transfer.baton_dir or "")
    baton = baton_path(folder, recorded.visit - 1)
    if transfer.baton_dir is None or not baton.is_file():
        raise InputError(
            f"there is no baton of visit {recorded.visit - 1} in {folder}; a run with baton_dir keeps them"
        )
    entries = iter_entries(run / LEDGER)
    before = [entry.visit for entry in entries if entry.site == recorded.site and entry.visit < recorded.visit]
    stayed: dict[str, Any] = {}
    if before and (transfer.optimizer_state == "local" or local_path(folder, before[-1]).exists()):
        stayed = read_checkpoint(local_path(folder, before[-1]))
    if fingerprint(read_checkpoint(baton).get("state_dict", {}))[0] != recorded.sha256_in:
        raise InputError(f"{baton} does not have the weights that visit {recorded.visit} began with, by the ledger")
    return baton, stayed


def _kept(folder: Path, visit: int, sha256: str) -> dict[str, Any]:
    """The weights that were kept when a visit had ended."""
    path = weights_path(folder, visit)
    weights: dict[str, Any] = read_checkpoint(path)["state_dict"]
    if fingerprint(weights)[0] != sha256:
        raise InputError(f"{path} does not have the weights that visit {visit} ended with, by the ledger")
    return weights


def _check_sums(folder: Path, merge: Merge, baton: dict[str, Any]) -> None:
    """Add up the weights of the visits before the last again, and compare the sum with that which the baton has."""
    sums = RunningMean()
    for visit, sha256, weight in list(zip(merge.visits, merge.parents, merge.weights, strict=True))[:-1]:
        sums.add(_kept(folder, visit, sha256), weight)
    state = find_merging(baton)
    if state is None or state["total"] != sums.total or not same(state["sums"][0], sums.sums):
        raise InputError(
            f"the sum in the baton of visit {merge.visits[-1] - 1} is not that of the visits that are to be merged"
        )


def _other_merge(recorded: Merge, again: Merge | None) -> str:
    found = "no merge" if again is None else f"the weights {again.sha256_out[:12]} of visits {again.visits}"
    return (
        f"{recorded.name} does not repeat: it came to {found} now, and to {recorded.sha256_out[:12]} of visits"
        f" {recorded.visits} in the ledger"
    )


class _OneVisit(Callback):
    """Ends a fit when a visit has ended, and what follows until a merge."""

    takes_part = False

    def __init__(self, recorded: Entry, last: Entry, transfer: WeightTransfer, stayed: dict[str, Any]) -> None:
        self.recorded = recorded
        self.last = last
        self.transfer = transfer
        self.stayed = stayed

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.fit_loop.min_epochs = 0  # nothing may keep the fit going
        if states := self.stayed.get("optimizer_states"):
            put_state(trainer.optimizers, states)
        for callback in visit_callbacks(trainer):
            callback.put_staying(self.recorded.site, self.stayed.get("staying", {}).get(callback.state_key, {}))

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        trainer.should_stop = self.transfer.visits_ended > self.last.visit


def _difference(recorded: Entry, again: Entry) -> str:
    now = versions()
    others = [
        f"{name} was {old} and is {now.get(name)}" for name, old in recorded.versions.items() if now.get(name) != old
    ]
    if again.settings != recorded.settings:
        others.append("the settings are others")
    return (
        f"visit {recorded.visit} at {recorded.site!r} does not repeat: it ended with the weights"
        f" {again.sha256_out[:12]} now, and with {recorded.sha256_out[:12]} in the ledger"
        f" ({', '.join(others) or 'programs and settings are the same, so the data or the hardware are not'})"
    )
