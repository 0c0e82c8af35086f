"""Makes the server and the sites of a federation from a run's settings and a site's own; knows nothing of an engine."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import dict_to_namespace, namespace_to_dict
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, LearningRateMonitor, ProgressBar, Timer
from lightning.pytorch.loggers import WandbLogger

from lit_dist.callbacks import PredictionWriter, RunCheckpoint, SiteEvaluation
from lit_dist.callbacks.heuristics.find_transfer import find_transfer
from lit_dist.checkpoints.run_folder import SETTINGS, run_folder
from lit_dist.checkpoints.run_lock import hold_new, remove_unbegun
from lit_dist.federation.class_list import ClassList
from lit_dist.federation.client import Parts, SiteClient
from lit_dist.federation.device_processes import DeviceProcesses, in_device_processes
from lit_dist.federation.ensemble_client import EnsembleClient
from lit_dist.federation.ensemble_server import EnsembleServer
from lit_dist.federation.policy import FOLDERS, check_places, check_policy, check_run, inside
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.roster import Roster
from lit_dist.federation.run_parts import RunParts
from lit_dist.federation.server import Server
from lit_dist.federation.site_settings import Settings, SiteSettings
from lit_dist.federation.transfer_client import TransferClient
from lit_dist.models.table_preparation import TablePreparation
from lit_dist.runs.lightning_cli import own_parts
from lit_dist.runs.resume import Resumption, claim_version
from lit_dist.utils.atomic_write import read_text, replacing
from lit_dist.utils.errors import InputError

OF_RUN = (LearningRateMonitor, ProgressBar, PredictionWriter, SiteEvaluation)
"""Callbacks that do nothing at a site."""

OF_SERVER = (Checkpoint, EarlyStopping, *OF_RUN)
"""Callbacks that do nothing at a site to which the model travels."""

_COMMAND = "command"
_PATIENCE = 30.0  # seconds


def make_site(name: str, run: Settings, own: SiteSettings, folder: Path) -> SiteClient | DeviceProcesses:
    """Make the client of a site, or several processes that have one each where its trainer takes several.

    Args:
        name: The site's name.
        run: The run's settings, which the site's policy may refuse.
        own: The site's.
        folder: Where the site may keep files.
    """
    check_policy(run, own)
    parts = _build(run, own, folder, OF_SERVER, alone=False)
    processes = parts.trainer.world_size
    if processes > 1 and not in_device_processes():
        if parts.trainer.num_nodes > 1:
            raise Refusal("its site.yaml lets the trainer take several machines; a site trains on one: num_nodes: 1")
        return DeviceProcesses(partial(make_site, name, run, own, folder), processes)
    if find_transfer(parts.trainer) is not None:
        return TransferClient(name, parts, own)

    def make(run_id: str) -> Parts:
        parts = _build(run, own, folder / "alone" / run_id, OF_RUN, alone=True)
        parts.trainer.callbacks.append(RunCheckpoint(keep=1))  # type: ignore[attr-defined]
        return parts

    return EnsembleClient(name, make, own, folder)


def _build(run: Settings, own: SiteSettings, folder: Path, without: tuple[type, ...], alone: bool) -> Parts:
    """Make a run's parts with a site's own data and hardware, and without some callbacks."""
    model = _without_weights(run["model"])
    check_places(model, "model", "the site")
    named = RunParts({**run, "model": model}, ClassList(own.classes), without, partial(inside, folder=folder))
    with _said("the run's settings"):
        module = named.module(own.max_parameters)
        _allow_sums(module, own)
    with _said("this site's site.yaml"):
        data, hardware = own_parts(own.data, {"devices": 1, **own.trainer})
    # A fit alone is found again by its folder, which a logger would choose.
    logger = hardware.pop("logger", False)
    with _said("this site's site.yaml or the run's settings"):
        machine = {**hardware, "logger": False if alone else logger, "enable_checkpointing": alone}
        trainer = named.trainer(folder, at_site=True, **machine)
    return Parts(trainer, module, data)


def _allow_sums(module: LightningModule, own: SiteSettings) -> None:
    """Let sums of a table's columns be of as many records as the site wants."""
    for part in module.modules():
        if isinstance(part, TablePreparation):
            if own.min_records is None:
                raise Refusal(
                    "the run asks for sums of a table's columns, and its site.yaml lets none leave the site;"
                    " min_records there would, such as min_records: 5 for those of at least 5 records"
                )
            part.least_here = own.min_records


@contextmanager
def _said(whose: str) -> Iterator[None]:
    """Say whose settings an error comes from."""
    try:
        yield
    except (Exception, SystemExit) as error:
        # The parser ends the process, as on a command line; and it wraps what a class's constructor raises.
        cause = error.__context__ if isinstance(error, SystemExit) and error.__context__ else error
        kind = Refusal if isinstance(cause, Refusal) else InputError
        raise kind(f"{whose} cannot be used: {cause}") from cause


def _without_weights(model: Any) -> Any:
    """The weights to begin with come from the server, also those of a model within a model."""
    if isinstance(model, list):
        return [_without_weights(each) for each in model]
    if not isinstance(model, dict):
        return model
    found = {name: _without_weights(value) for name, value in model.items()}
    arguments = found.get("init_args")
    if isinstance(arguments, dict) and isinstance(arguments.get("weights"), str):
        found["init_args"] = {**arguments, "weights": None}
    return found


class FederatedRun:
    """A run at the server, with its folder.

    Args:
        run: The run's settings.
        roster: The sites.
        root: The folder that those of loggers and callbacks are inside of.
        resume: Whether to continue the newest run, if there is one.
        command: The id of the command that asks for it. The newest run is resumed also if it was this command that
            began it, in a job that has died.
        classes: Further classes that the run may name, as the server's people allow them.

    Raises:
        InputError: If the settings name other classes, values of other types, or places of the server's machine.
    """

    def __init__(
        self,
        run: Settings,
        roster: Roster,
        root: Path,
        resume: bool,
        command: str = "",
        classes: Sequence[str] = (),
    ) -> None:
        check_run(run)
        for name in ("plugins", "model_registry"):
            if run["trainer"].get(name):
                raise InputError(f"trainer.{name} is not for a federation, where no run says it: leave it out")
        self.given = run
        self.command_id = command
        with ExitStack() as held:
            self._make_parts(run, roster, root, resume, classes, held)
            self._held = held.pop_all()

    def _make_parts(
        self, run: Settings, roster: Roster, root: Path, resume: bool, classes: Sequence[str], held: ExitStack
    ) -> None:
        trainer = {
            **run["trainer"],
            "logger": _rooted(run["trainer"].get("logger"), root),
            "default_root_dir": str(root),
        }
        settings = dict_to_namespace({"trainer": trainer})
        resume = resume or _was_begun_by(self.command_id, settings)
        self.resumption = Resumption(settings) if resume else None
        if self.resumption is not None:
            self.resumption.begin(held, _PATIENCE)  # of the job before, the process may still be ending
        self._goes_on = self.resumption is not None and self.resumption.run is not None
        if not self._goes_on and (claimed := claim_version(settings)) is not None:
            held.push(partial(remove_unbegun, claimed))
        checkpoint = settings.get("ckpt_path")
        self.checkpoint = Path(checkpoint) if checkpoint else None
        with _said("the run's settings"):
            trainer = {**namespace_to_dict(settings)["trainer"], "callbacks": _rooted(trainer.get("callbacks"), root)}
            named = RunParts({**run, "trainer": trainer}, ClassList(classes), (PredictionWriter,))
            self.module = named.module()
            self.trainer = named.trainer(root, accelerator="cpu", devices=1)
        self.trainer.callbacks.append(RunCheckpoint())  # type: ignore[attr-defined]
        if (self.trainer.max_epochs or -1) < 1:
            raise InputError("a federation needs max_epochs")  # a site that trains alone would not end, either
        kind = EnsembleServer if find_transfer(self.trainer) is None else Server
        self.server: Server | EnsembleServer = kind(roster, self.trainer, self.module)
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(self.server, Server):
            self.server.transfer.itinerary(roster.sites)  # an order that is wrong is said here; a site would not say it
            if any(isinstance(each, Timer) for each in callbacks):
                raise InputError("max_time and Timer cannot end a federated run: leave them out, and set max_epochs")
            if self.server.transfer.baton_dir is not None:
                raise InputError("baton_dir is not for a federation, where nobody has all batons: leave it out")

    def make(self) -> Path:
        """Make the run, or resume it; gives the run's folder."""
        trainer = self.trainer
        folder = run_folder(trainer)
        with self._held as held:
            if self._goes_on and self.resumption is not None:
                self.resumption.restore(trainer, yaml.safe_dump(self.given))
            else:
                hold_new(trainer, held, _PATIENCE)
                with replacing(folder / SETTINGS) as file:
                    file.write(yaml.safe_dump(self.given, sort_keys=False).encode())
            (folder / _COMMAND).write_text(self.command_id)
            self.server.run(self.checkpoint)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()
        return folder


def _was_begun_by(command: str, settings: Any) -> bool:
    with suppress(InputError, UnicodeDecodeError):  # there is none, or none could be found again
        newest = Resumption(settings.clone()).run if command else None
        mark = newest / _COMMAND if newest else None
        return mark is not None and mark.exists() and read_text(mark) == command
    return False


def _rooted(given: Any, root: Path) -> Any:
    """The settings of loggers or callbacks, with their folders inside of one; other places are refused."""
    if isinstance(given, list):
        return [_rooted(each, root) for each in given]
    arguments = (given.get("init_args") or {}) if isinstance(given, dict) else None
    if not isinstance(arguments, dict):
        return given
    check_places(arguments, str(given.get("class_path")), "the server")
    folders = {name: os.path.join(root, arguments[name]) for name in FOLDERS if isinstance(arguments.get(name), str)}
    return {**given, "init_args": {**arguments, **folders}}
