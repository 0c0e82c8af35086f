"""What a study is set to: its own settings, and those that all of its runs share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_origin

import jsonargparse
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

# Imported so that a study can name their classes without their modules.
import lit_dist.callbacks
import lit_dist.datamodules
import lit_dist.models.classifier
import lit_dist.models.image_predictor
import lit_dist.models.tabular_predictor  # noqa: F401
from lit_dist.callbacks.fit_checks import check_numbers
from lit_dist.callbacks.optimizer_states import OptimizerState
from lit_dist.callbacks.site_evaluation import Moment
from lit_dist.runs.lightning_cli import SiteParser
from lit_dist.study.heuristics import KINDS, Heuristic, read_heuristics
from lit_dist.study.plain_settings import plain_settings
from lit_dist.study.report_settings import ReportSettings
from lit_dist.utils.child_processes import most_processes
from lit_dist.utils.errors import InputError
from lit_dist.utils.yaml_text import read_yaml
from lit_dist.visits.seeding import check_seed

SETTINGS = "study.yaml"
"""The file in a study's folder with what it was set to."""

RESERVED = ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "logger", "default_root_dir")
"""What the study sets of the trainer."""

NOT_OF_STUDY = ("output", "open", "saliency", "print_commands")
"""What is said of one call of the command, and kept nowhere: a later one shows images of patients if it says so."""

MOST_MAPS = 50


@dataclass(frozen=True)
class Settings:
    """The settings of a study.

    Attributes:
        collection: The name of the collection in tables and figures.
        passes: How often each training image is seen in a run. It is the budget of all heuristics: central trains for
            the same number of optimizer steps as cyclical weight transfer; single weight transfer for no more epochs a
            site.
        heuristics: What is compared: short names, and mappings with a ``name`` and ``callbacks`` (see docs/study.md).
        every_n_epochs: For cyclical weight transfer, the lengths of a visit; each divides ``passes``.
        every_n_steps: For cyclical weight transfer, more lengths of a visit, in optimizer steps.
        orders: For both transfers, the orders of the sites.
        optimizer_states: For both transfers, what becomes of the optimizer's state.
        seeds: The seeds of the runs; each is one of everything.
        single_budget: Whether a single-institution model trains for as many ``"steps"`` as all others, which is many
            more passes over its own images, or for as many ``"passes"``.
        patience: For single weight transfer, the number of validations without improvement that end a visit.
        monitor: The metric by which the best model of each run is kept, and the plateau found.
        mode: Whether that metric improves by falling or by rising.
        site_evaluation: When the model of a transfer is evaluated on every site: ``"off"``, after every ``"visit"`` or
            every ``"cycle"``.
        lengths: Settings that follow the length of a run, such as a schedule's: each by its dotted name from ``model``
            on, with ``"epochs"`` or ``"steps"``.
        wandb: Arguments of Lightning's ``WandbLogger``, such as ``project``; each run is then a run there, the study
            its group. Without it nothing is sent anywhere.
        leave_one_site_out: Whether each site is held out in turn, and each run is tested at that site alone, with all
            of its records: what a model does at a hospital that took no part.
        jobs: The number of runs at a time. On a machine with GPUs, each has one of them.
        report: How the report chooses its threshold; it may be changed when all runs are finished.
    """

    collection: str
    passes: int
    heuristics: list[Any] = field(default_factory=lambda: list(KINDS))
    every_n_epochs: list[int] = field(default_factory=lambda: [1])
    every_n_steps: list[int] = field(default_factory=list)
    orders: list[Literal["fixed", "shuffled", "no_repeat"]] = field(default_factory=lambda: ["fixed"])
    optimizer_states: list[OptimizerState] = field(default_factory=lambda: ["reset"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    single_budget: Literal["steps", "passes"] = "steps"
    patience: int = 5
    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    site_evaluation: Moment = "cycle"
    lengths: dict[str, Literal["epochs", "steps"]] = field(default_factory=dict)
    wandb: dict[str, Any] | None = None
    leave_one_site_out: bool = False
    jobs: int = 1
    report: ReportSettings = field(default_factory=ReportSettings)

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        for name in ("every_n_epochs", "every_n_steps", "orders", "optimizer_states", "seeds"):
            values = getattr(self, name)
            may_be_empty = name.startswith("every") and (self.every_n_epochs or self.every_n_steps)
            if not (values or may_be_empty) or len(set(values)) < len(values):
                raise InputError(f"{name}={values} must name at least one, and none twice")
        for seed in self.seeds:
            check_seed(seed, "seeds")
        if self.jobs > most_processes():
            raise InputError(f"jobs={self.jobs} is more than {most_processes()}, the most for this machine")
        for name in ("passes", "patience", "jobs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} counts from 1")


@dataclass(frozen=True)
class StudySettings:
    """A study's own settings, what it compares, and what its runs share, as ``lit-dist fit`` is given it."""

    study: Settings
    heuristics: list[Heuristic]
    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any]

    def __post_init__(self) -> None:
        """Check the lengths of visits that no run could make its budget of."""
        cyclical = any(each.kind == "cyclical_weight_transfer" for each in self.heuristics)
        passes = self.study.passes
        for every in self.study.every_n_epochs if cyclical else ():
            if every < 1 or passes % every:
                raise InputError(
                    f"visits of {every} epochs do not divide passes={passes}, so the last cycle would not be whole"
                )
        if any(every < 1 for every in self.study.every_n_steps):
            raise InputError(f"every_n_steps={self.study.every_n_steps} counts from 1")


def study_parser() -> LightningArgumentParser:
    """The parser of ``lit-dist compare``."""
    parser = SiteParser(
        prog="lit-dist compare",
        usage="lit-dist compare --config FILE [--output FOLDER] [--SETTING VALUE ...]",
        description="Train every heuristic on one collection and compare them, with tables, figures and a report.",
    )
    config: Any = jsonargparse.ActionConfigFile  # type: ignore[attr-defined]  # public, but not exported to type checkers
    parser.add_argument("--config", action=config, help="A study's configuration.")
    parser.add_class_arguments(Settings)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_argument("--output", type=str | None, help="The study's folder; studies/<collection> by default.")
    parser.add_argument("--open", action="store_true", help="Show the report in the browser when it is written.")
    parser.add_argument(
        "--saliency",
        type=int,
        default=0,
        help="Show in the report where models look (Grad-CAM): so many test images that each is surely right of, and so"
        " many that it is surely wrong of. The page then holds images of patients. It holds for this call alone.",
    )
    parser.add_argument(
        "--print-commands", action="store_true", help="Write the plan and print one command a run, but run nothing."
    )
    return parser


def parsed(parser: LightningArgumentParser, given: jsonargparse.Namespace) -> StudySettings:
    """The settings that a command line and its configuration give.

    Raises:
        InputError: If one is not a study's, or is the study's own to set.
    """
    plain = plain_settings(given)
    data = _as_in_runs(plain["data"])
    own = {item.name: plain[item.name] for item in fields(Settings)}
    study = Settings(**{**own, "report": ReportSettings(**(plain["report"] or {}))})
    default = plain_settings(parser.get_defaults())["trainer"]
    trainer = {name: value for name, value in plain["trainer"].items() if value != default[name]}
    check_numbers(trainer)
    for name in RESERVED:
        if name in trainer:
            raise InputError(f"trainer.{name} is set by the study itself; passes says how long each run is")
    for name in ("fast_dev_run", "overfit_batches"):
        if trainer.get(name):
            raise InputError(
                f"trainer.{name} is for trying a module, and gives no results; passes=1 makes a short study"
            )
    for name in ("devices", "num_nodes"):
        if trainer.get(name, 1) not in (1, "1", "auto"):
            raise InputError(
                f"trainer.{name}={trainer[name]} would make several processes of a run, but a run of a study is one and"
                " writes one file of predictions: leave it out; with several GPUs, jobs=2 trains two runs at once, each"
                " on one of them"
            )
    heuristics = read_heuristics(study.heuristics, trainer.get("callbacks"))
    return StudySettings(study, heuristics, plain["model"], data, trainer)


def read_study(path: Path) -> StudySettings:
    """Read the settings that a study's folder has, without importing any class that they name.

    Raises:
        InputError: If they are damaged, or not those of a study.
    """
    given = read_yaml(path)
    try:
        own = {item.name: given[item.name] for item in fields(Settings) if item.name in given}
        report = ReportSettings(**(given.get("report") or {}))
        study = Settings(**{**own, "jobs": 1, "report": report})  # another machine may have fewer processors
        heuristics = [Heuristic.of_plain(each) for each in study.heuristics]
        return StudySettings(study, heuristics, given["model"], _as_in_runs(given["data"]), given["trainer"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} does not have the settings of a study, as lit-dist compare writes them") from None


def _as_in_runs(data: dict[str, Any]) -> dict[str, Any]:
    """The settings of the data, without one that the runs of earlier studies did not know: these keep their names."""
    given = {name: value for name, value in data["init_args"].items() if (name, value) != ("external", None)}
    return {**data, "init_args": given}


def with_lists(words: Sequence[str]) -> list[str]:
    """Words in which the several values of an option, ``--seeds 0,1`` or ``--seeds 0 1``, are one list."""
    names = {f"--{item.name}" for item in fields(Settings) if get_origin(item.type) is list}
    given: list[list[str]] = []  # each option with its values
    for word in words:
        if word.startswith("--") or not given:
            given.append([word])
        else:
            given[-1].append(word)
    result: list[str] = []
    for option, *values in given:
        name, equals, value = option.partition("=")
        listed = [name, _list_of([value, *values] if equals else values)]
        result += listed if name in names else [option, *values]
    return result


def _list_of(values: Sequence[str]) -> str:
    text = " ".join(values)
    if text.startswith("[") or not values:
        return text
    return f"[{', '.join(text.replace(',', ' ').split())}]"


def study_folder(output: str | None, settings: Settings) -> Path:
    """Where a study leaves everything.

    Raises:
        InputError: If it is not given, and the collection's name is not one for a folder.
    """
    name = settings.collection
    if not output and (not name.isprintable() or not name.strip(". ") or {"/", "\\"} & set(name)):
        raise InputError(f"collection={name!r} is not a name for a folder; give one, or --output FOLDER")
    return Path(output or f"studies/{name}")
