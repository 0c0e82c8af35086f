"""``lit-dist federate``: the run of a configuration across real institutions, or with separate processes here."""

import argparse
import copy
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from lit_dist.callbacks.heuristics.find_transfer import find_transfer
from lit_dist.datamodules import SiteDataModule
from lit_dist.federation.policy import FOLDERS
from lit_dist.federation.run_watch import RunWatch, planned_visits
from lit_dist.federation.site_settings import ALL, OF_SITE
from lit_dist.runs.lightning_cli import PARTS, SiteCLI, build, site_cli
from lit_dist.runs.make_trainer import as_list
from lit_dist.utils.errors import InputError
from lit_dist.utils.extras import need
from lit_dist.utils.plain_errors import PlainErrors

DAY = 24 * 3600
YEAR = 365 * DAY
_PATHS = ("root", "labels", "images", "splits", "cache_dir", "weights", "file")
_NOT_HERE = {
    "ckpt_path": "it resumes a run by --resume, and begins one with the model's weights",
    "checkpoint.keep": "the server keeps the state after each visit, and the last two; leave it out",
    "checkpoint.every_n_steps": "the server keeps the state after each visit; leave it out",
    "trainer.default_root_dir": "the run's folder is that of its logger (--trainer.logger.save_dir)",
}


class _Parser(PlainErrors, argparse.ArgumentParser):
    """That of jsonargparse takes no words that it does not know."""


def main(args: list[str]) -> None:
    """Run ``lit-dist federate`` with the words that follow it."""
    parser = _Parser(
        prog="lit-dist federate",
        description="Make the run of a configuration where the images are, on NVIDIA FLARE. All other options are those"
        " of lit-dist fit, such as --config run.yaml --trainer.max_epochs 12.",
        allow_abbrev=False,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--local", action="store_true", help="server and sites as separate processes on this machine")
    where.add_argument("--kit", type=Path, help="the startup kit of an administrator of a running FLARE system")
    parser.add_argument("--user", help="the administrator's name; by default that of the kit's folder")
    parser.add_argument(
        "--sites", type=_names, help="with --kit: the names of the sites, with commas, in the order of the run"
    )
    parser.add_argument("--resume", action="store_true", help="continue the newest run, if there is one")
    parser.add_argument(
        "--absent",
        choices=("retry", "skip"),
        default="retry",
        help="what happens where a site gives no answer: repeat the visit when it is back (retry), or leave the"
        " visit out, with a line in the ledger and a warning (skip)",
    )
    parser.add_argument(
        "--weights",
        choices=("images", "equal"),
        default="images",
        help="what a site counts in values of all sites together, such as val_loss: its number of images, or as much as"
        " any other",
    )
    parser.add_argument("--timeout", type=_seconds, default=DAY, help="seconds to wait for a site's answer (one day)")
    parser.add_argument("--retries", type=_count, default=3, help="how often to resume after a process has died (3)")
    parser.add_argument("--folder", type=Path, help="with --local: where to keep the system's files; else temporary")
    options, words = parser.parse_known_args(args)
    if options.folder is not None and options.folder.exists() and not options.folder.is_dir():
        raise InputError(f"--folder {options.folder} is not a folder")
    need("nvflare", "federate works on NVIDIA FLARE, and")
    settings = parse(words)
    with _kept_on_failure(options.folder if options.local else None) as folder:
        report = _locally(options, settings, folder) if options.local else _with_kit(options, settings, folder)
        if "error" in report:
            raise InputError(report["error"])
    print("\n".join([f"Run: {report['run']}", *report["said"]]))


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:20]) <= YEAR:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 1 to {YEAR}, which is a year")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of times from 0")
    return int(text)


def _names(text: str) -> list[str]:
    sites = [site.strip() for site in text.split(",")]
    try:
        _check_names(sites)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return sites


def _check_names(sites: Sequence[str]) -> None:
    """Refuse sites that FLARE gives no startup kit: their names are also those of folders and hosts."""
    for site in sites:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", site) or site == "server" or list(sites).count(site) > 1:
            raise InputError(
                f"a site of a federation cannot be called {site!r}: FLARE takes up to 64 letters, digits, - and _, each"
                " name once, and not `server`"
            )


@contextmanager
def _kept_on_failure(given: Path | None) -> Iterator[Path]:
    """The folder that was given; or a temporary one, which stays after an error, since the logs are in it."""
    if given is not None:
        yield given.absolute()
        return
    folder, kept = Path(tempfile.mkdtemp(prefix="lit_dist_")), False
    try:
        yield folder
    except Exception:
        kept = any(folder.iterdir())
        raise
    finally:
        if kept:
            print(f"The logs of this command are kept in {folder}; delete it when they are not needed", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def parse(words: list[str]) -> dict[str, Any]:
    """The settings of ``fit``, checked and with all defaults, from its words."""
    command = site_cli(["fit", *words], run=True, kind=_Settings)
    assert isinstance(command, _Settings)
    return command.settings


class _Settings(SiteCLI):
    """Parses the words of ``fit``, and makes nothing of them."""

    @override
    def instantiate_classes(self) -> None:
        parser: Any = self._parser("fit")
        fit, defaults = self.config["fit"], parser.get_defaults()
        for name, instead in _NOT_HERE.items():
            if fit.get(name) != defaults.get(name):
                raise InputError(f"--{name} is not for a federation: {instead}")
        given = yaml.safe_load(parser.dump(fit, skip_none=False))
        self.settings = {name: given[name] for name in PARTS if name in given}

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        pass


def _locally(options: argparse.Namespace, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    command = build({**settings, "trainer": {**settings["trainer"], "logger": False}})
    sites = _sites_of(command)
    transfer = find_transfer(command.trainer)
    if transfer is not None:
        command.datamodule.check_monitors(command.trainer)
    if transfer is not None and transfer.optimizer_state == "local" and options.resume and options.folder is None:
        raise InputError(
            "with optimizer_state=local each site keeps a part of the run: give --folder when it begins, and the"
            " same one with --resume"
        )
    from lit_dist.federation.flare.local import ADMIN, LocalSystem
    from lit_dist.federation.flare.session import connect

    hardware = {name: settings["trainer"][name] for name in OF_SITE if name != "logger"}
    runs, trainer = _below_one(settings["trainer"])
    settings = {**settings, "model": _absolute(settings["model"]), "trainer": trainer}
    # Who gives the command is the people of the server and of all sites, and has named these classes.
    classes = sorted(set(_classes([settings["model"], trainer["callbacks"], trainer["logger"]])))
    same = {"metrics": ALL, "trainer": hardware, "classes": classes, "min_records": 1}
    own = {site: {"data": _absolute(settings["data"], only_site=site), **same} for site in sites}
    visits = planned_visits(transfer, sites, trainer["max_epochs"])
    watch = RunWatch(runs, trainer["logger"], options.resume).shown(visits)
    with LocalSystem(folder, own, {"classes": classes, "runs": str(runs)}) as system, watch as look:
        may_die = sites if options.absent == "skip" else []

        def check() -> None:
            system.check(may_die)
            look()

        with closing(connect(system.kits / ADMIN, ADMIN, 120, system.check)) as session:
            return _made(session, folder, settings, sites, options, check)


def _sites_of(command: SiteCLI) -> list[str]:
    data = command.datamodule
    several = isinstance(data, SiteDataModule) and not data.centralized
    if several and find_transfer(command.trainer) is None:
        data.only_site = None  # each trains alone, and all of them do
    if not several or data.only_site:
        raise InputError("--local needs a datamodule of lit_dist with several sites, to give each process its own")
    sites: list[str] = data.training_sites
    _check_names(sites)
    if len(sites) < 2:
        raise InputError(f"there is only the site {sites[0]!r}; a federation needs at least two")
    return sites


def _absolute(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A class with absolute paths among its arguments: server and sites run in folders of their own."""
    arguments = dict(settings.get("init_args") or {})
    for name, value in arguments.items():
        if isinstance(value, dict) and "class_path" in value:  # a partition of a file, or images to encode
            arguments[name] = _absolute(value)
        elif name in _PATHS and value is not None:
            arguments[name] = str(Path(value).absolute())
    return {**settings, "init_args": {**arguments, **more}}


def _classes(tree: Any) -> Iterator[str]:
    """The classes that settings name."""
    if isinstance(tree, dict | list):
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from _classes(each)
    if isinstance(tree, dict) and isinstance(tree.get("class_path"), str):
        yield tree["class_path"]


def _below_one(trainer: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """A folder that has all those of the loggers and callbacks, and the trainer's settings with them relative to it."""
    given = copy.deepcopy(trainer)
    settings = [each for name in ("logger", "callbacks") for each in as_list(given[name]) if isinstance(each, dict)]
    arguments = [each.get("init_args") or {} for each in settings]
    named = [(each, name) for each in arguments for name in FOLDERS if isinstance(each.get(name), str)]
    places = [os.path.abspath(each[name]) for each, name in named]
    root = os.path.commonpath([Path.cwd(), *places])
    for (each, name), place in zip(named, places, strict=True):
        each[name] = os.path.relpath(place, root)
    return Path(root), given


def _with_kit(options: argparse.Namespace, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    from lit_dist.federation.flare.session import connect

    if not options.sites:
        raise InputError("--kit needs --sites, the names of the sites in the order of the run")
    kit = options.kit.absolute()
    settings = {name: value for name, value in settings.items() if name != "data"}  # each site has its own
    with closing(connect(kit, options.user or kit.name, 30)) as session:
        return _made(session, folder, settings, options.sites, options, lambda: None)


def _made(
    session: Any, folder: Path, settings: dict[str, Any], sites: list[str], options: Any, check: Callable[[], None]
) -> dict[str, Any]:
    from lit_dist.federation.flare.retry import RunOptions, make_run

    given = RunOptions(**{name: getattr(options, name) for name in RunOptions.__slots__})
    return make_run(session, folder, settings, sites, given, check)
