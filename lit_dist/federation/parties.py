"""Makes the server and the sites of a federation from a run's settings and a site's own; knows nothing of an engine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from jsonargparse import dict_to_namespace, namespace_to_dict
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, LearningRateMonitor, ProgressBar, Timer
from lightning.pytorch.loggers import WandbLogger

from lit_dist.callbacks import PredictionWriter, RunCheckpoint, SiteEvaluation
from lit_dist.errors import InputError
from lit_dist.federation.crew import Crew, in_crew
from lit_dist.federation.ensembling import Ensembling
from lit_dist.federation.limits import Limits
from lit_dist.federation.member import MemberParty
from lit_dist.federation.party import Parts, Party
from lit_dist.federation.policy import check_policy, inside
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.roster import Roster
from lit_dist.federation.server import Server
from lit_dist.federation.site import SiteParty, travels
from lit_dist.federation.site_settings import OF_SITE, Settings, SiteSettings
from lit_dist.files import replacing
from lit_dist.lightning_cli import SiteCLI, build
from lit_dist.resumption import Resumption
from lit_dist.run_folder import SETTINGS, run_folder

OF_RUN = (LearningRateMonitor, ProgressBar, PredictionWriter, SiteEvaluation)
"""Callbacks that do nothing at a site."""

OF_SERVER = (Checkpoint, EarlyStopping, *OF_RUN)
"""Callbacks that do nothing at a site to which the model travels."""

_COMMAND = "command"
_PATIENCE = 30.0  # seconds
_QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def make_site(name: str, run: Settings, own: SiteSettings, folder: Path) -> Party | Crew:
    """Make the party of a site, or several processes that have one each where its trainer takes several.

    Args:
        name: The site's name.
        run: The run's settings.
        own: The site's.
        folder: Where the site may keep files.

    Raises:
        Refusal: If the site's policy refuses the run.
    """
    check_policy(run, own)
    metrics = None if own.metrics is None else list(own.metrics)
    command = _build(run, own, folder, OF_SERVER, alone=False)
    processes = command.trainer.world_size
    if processes > 1 and not in_crew():
        if command.trainer.num_nodes > 1:
            raise Refusal("its site.yaml lets the trainer take several machines; a site trains on one: num_nodes: 1")
        return Crew(partial(make_site, name, run, own, folder), processes)
    if travels(command.trainer):
        limits = Limits(own.max_epochs, own.max_visits)
        return SiteParty(name, _parts(command), metrics, own.min_images, limits)

    def make(run_id: str) -> Parts:
        command = _build(run, own, folder / "alone" / run_id, OF_RUN, alone=True)
        command.trainer.callbacks.append(RunCheckpoint(keep=1))  # type: ignore[attr-defined]
        return _parts(command)

    return MemberParty(name, make, metrics, own.min_images)


def _build(run: Settings, own: SiteSettings, folder: Path, without: tuple[type, ...], alone: bool) -> SiteCLI:
    """Make a run's parts with a site's own data and hardware, and without some callbacks."""
    # A fit alone is found again by its folder, which a logger would choose.
    logger = own.trainer.get("logger", False) if not alone else False
    hardware = {key: value for key, value in own.trainer.items() if key in OF_SITE}
    trainer = {**run["trainer"], **_QUIET, **hardware, "logger": logger, "default_root_dir": str(folder)}
    names = {each.__name__ for each in without} | (set() if alone else {"ModelCheckpoint"})
    given = run["trainer"]["callbacks"] or []
    named = [each for each in given if str(each["class_path"]).rpartition(".")[2] not in names]
    trainer["callbacks"] = [inside(each, folder) for each in named]
    trainer["profiler"] = None  # it would write where the run says
    trainer["enable_checkpointing"] = alone
    settings = {**run, "model": _without_weights(run["model"]), "trainer": trainer, "data": own.data}
    command = _made(settings, "this site's site.yaml or the run's settings")
    callbacks: list[Any] = command.trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [callback for callback in callbacks if not isinstance(callback, without)]
    return command


def _made(settings: Settings, whose: str) -> SiteCLI:
    try:
        return build(settings)
    except (Exception, SystemExit) as error:
        # The parser ends the process, as on a command line; and it wraps what a class's constructor raises.
        cause = error.__context__ if isinstance(error, SystemExit) and error.__context__ else error
        raise InputError(f"{whose} cannot be used: {cause}") from cause


def _parts(command: SiteCLI) -> Parts:
    return Parts(command.trainer, command.model, command.datamodule)


def _without_weights(model: Settings) -> Settings:
    """The weights to begin with come from the server."""
    arguments = model.get("init_args") or {}
    return {**model, "init_args": {**arguments, "weights": None}} if arguments.get("weights") else model


class FederatedRun:
    """A run at the server, with its folder.

    Args:
        run: The run's settings.
        roster: The sites.
        root: The folder that relative paths of loggers are inside of.
        resume: Whether to go on with the newest run, if there is one.
        command: The id of the command that asks for it. The newest run is gone on with also if it was this command that
            began it, in a job that has died.
    """

    def __init__(self, run: Settings, roster: Roster, root: Path, resume: bool, command: str = "") -> None:
        self.given = run
        self.command_id = command
        trainer = {**run["trainer"], **_QUIET, "accelerator": "cpu", "devices": 1, "strategy": "auto"}
        trainer |= {"logger": _rooted(run["trainer"]["logger"], root), "default_root_dir": str(root)}
        settings = dict_to_namespace({**run, "trainer": trainer})
        resume = resume or _was_begun_by(command, settings)
        self.resumption = Resumption(settings) if resume else None
        checkpoint = settings.get("ckpt_path") if resume else None
        self.checkpoint = Path(checkpoint) if checkpoint else None
        kept = {key: value for key, value in namespace_to_dict(settings).items() if key not in ("data", "ckpt_path")}
        self.command = _made(kept, "the run's settings")
        callbacks: list[Any] = self.command.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(RunCheckpoint())
        callbacks[:] = [each for each in callbacks if not isinstance(each, PredictionWriter)]
        if (self.command.trainer.max_epochs or -1) < 1:
            raise InputError("a federation needs max_epochs")  # a site that trains alone would not end, either
        kind = Server if travels(self.command.trainer) else Ensembling
        self.server: Server | Ensembling = kind(roster, self.command.trainer, self.command.model)
        if isinstance(self.server, Server):
            self.server.transfer.itinerary(roster.sites)  # an order that is wrong is said here; a site would not say it
            if any(isinstance(each, Timer) for each in callbacks):
                raise InputError("max_time and Timer cannot end a federated run: leave them out, and set max_epochs")
            if self.server.transfer.baton_dir is not None:
                raise InputError("baton_dir is not for a federation, where nobody has all batons: leave it out")

    def make(self) -> Path:
        """Make the run, or go on with it.

        Returns:
            The run's folder.
        """
        trainer = self.command.trainer
        folder = run_folder(trainer)
        going_on = self.resumption is not None and self.resumption.run is not None
        if not going_on:
            loggers: list[Any] = trainer.loggers
            for logger in loggers:
                _ = logger.experiment  # a CSVLogger warns of a folder that has files already
        with _held(folder):
            (folder / _COMMAND).write_text(self.command_id)
            if self.resumption is not None and going_on:
                self.resumption.check_settings(yaml.safe_dump(self.given))
                self.resumption.restore_logs(trainer)
            else:
                with replacing(folder / SETTINGS) as file:
                    file.write(yaml.safe_dump(self.given, sort_keys=False).encode())
            self.server.run(self.checkpoint)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()
        return folder


def _was_begun_by(command: str, settings: Any) -> bool:
    with suppress(InputError):  # there is none, or none could be found again
        newest = Resumption(settings.clone()).run if command else None
        mark = newest / _COMMAND if newest else None
        return mark is not None and mark.exists() and mark.read_text() == command
    return False


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a run's folder, so that no other server works on the run."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=_PATIENCE)  # of the job before, the process may still be ending
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another server works on the run in {folder}: wait for its end, or abort its job") from None
    try:
        yield
    finally:
        lock.release()


def _rooted(loggers: Any, root: Path) -> Any:
    if isinstance(loggers, list):
        return [_rooted(logger, root) for logger in loggers]
    if not isinstance(loggers, dict):
        return loggers
    arguments = dict(loggers.get("init_args") or {})
    if arguments.get("save_dir"):
        arguments["save_dir"] = os.path.join(root, arguments["save_dir"])
    return {**loggers, "init_args": arguments}
