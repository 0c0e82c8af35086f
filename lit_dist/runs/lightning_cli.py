"""SiteCLI: Lightning's command line, with our classes known by their short names."""

import copy
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

# Imported so that a configuration can name their classes without their modules.
import lit_dist.datamodules
import lit_dist.models.ensemble
import lit_dist.models.image_predictor
import lit_dist.models.tabular_predictor  # noqa: F401
from lit_dist.callbacks import PredictionWriter, RunCheckpoint
from lit_dist.callbacks.ending import ending
from lit_dist.callbacks.fit_checks import check_one, check_trainer
from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.checkpoints.baton import read_checkpoint
from lit_dist.checkpoints.run_files import check_run, check_trainer_folders
from lit_dist.checkpoints.run_folder import LEDGER, run_folder
from lit_dist.checkpoints.run_lock import hold_new, remove_unbegun
from lit_dist.datamodules.images.augmentation import Augmenter
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.partition import Partition
from lit_dist.models.classifier import ImageClassifier
from lit_dist.models.supervised import SupervisedModule
from lit_dist.runs.class_kinds import check_kinds
from lit_dist.runs.make_trainer import as_list, make_trainer
from lit_dist.runs.resume import Resumption, claim_version
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import named_checkpoint
from lit_dist.utils.mistakes import first_line, mistake, root_of
from lit_dist.utils.plain_errors import PlainErrors
from lit_dist.utils.yaml_text import guard_parsers
from lit_dist.visits.seeding import check_seed

guard_parsers()

_PREDICT = (
    "Predict the test records of a run's collection. New images, or new records of a table, take the run's folder and"
    " nothing else: lit-dist predict RUN --images FOLDER (lit-dist predict RUN --help says more)."
)
PARTS = ("seed_everything", "model", "data", "trainer")
"""The settings of ``fit`` that a run is built of."""


class SiteParser(PlainErrors, LightningArgumentParser):
    """Lightning's parser, whose errors are one sentence, and which takes no option that is cut short."""

    kinds = (LightningModule, LightningDataModule, Callback, Logger, Optimizer, LRScheduler, Partition, Augmenter)
    parts: ClassVar = {"data": ImageDataModule, "model": ImageClassifier, "model.optimizer": Adam}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})


class SiteCLI(LightningCLI):
    """Lightning's command line, with checkpoints that need no pickle, and runs that can be resumed."""

    resumption: Resumption | None = None

    def __init__(self, *args: Any, others: Iterable[str] = (), **kwargs: Any) -> None:
        self._others = others
        with ExitStack() as self._held:  # all that the command does happens in here
            super().__init__(*args, **kwargs)

    @override
    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        subparser_kwargs["predict"] = {"description": _PREDICT, **subparser_kwargs.get("predict", {})}
        super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
        if add_subcommands:  # set after them, since the usage of each would begin with it
            self.parser.usage = f"lit-dist {{{','.join([*self.subcommands(), *self._others])}}} ..."

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--resume", action="store_true", help="fit: continue the newest run, if there is one.")
        parser.add_class_arguments(RunCheckpoint, "checkpoint")

    @override
    def instantiate_classes(self) -> None:
        self._given = self.config
        check_kinds(self.config.get(str(self.subcommand)) or self.config)
        if self.subcommand:
            self.config = self.config.clone()
            self._find_folder(str(self.subcommand))
        try:
            super().instantiate_classes()
        except ValueError as error:  # what constructors raise of their arguments; the parser wraps it
            if mistake(error) is not None:
                raise
            raise InputError(first_line(root_of(error))) from error

    def _find_folder(self, command: str) -> None:
        """Continue in the folder of the run that is to be resumed, or take one that no other run has."""
        settings = self.config[command]
        if settings.get("resume"):
            if command != "fit":
                raise InputError(f"--resume is for fit; {command} takes --ckpt_path")
            self._given[command].resume = False
            self.resumption = Resumption(settings)
            self.resumption.begin(self._held)
            if self.resumption.run is not None:
                self.save_config_callback = None
                return
        writes = rank_zero_only.rank == 0 and not settings.trainer.fast_dev_run  # type: ignore[attr-defined]
        folder = claim_version(settings) if writes else None
        if folder is not None:
            self._held.push(partial(remove_unbegun, folder))

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self.config = self._given  # what a run leaves does not say where it was resumed
        settings = self.config_init[self.subcommand] if self.subcommand else self.config_init
        trainer = settings["trainer"]
        writes = trainer["enable_checkpointing"] is not False and not trainer["barebones"]
        keeps = self.subcommand == "fit" and writes
        if keeps:
            kwargs["callbacks"] = [*as_list(trainer["callbacks"]), settings["checkpoint"]]
        check_one(as_list(trainer["callbacks"]), WeightTransfer)
        try:
            return make_trainer(super().instantiate_trainer, trainer["plugins"], requeue=keeps, **kwargs)
        except (ValueError, TypeError, ImportError, RuntimeError) as error:  # hardware or loggers that are not there
            raise InputError(f"the trainer cannot be made: {first_line(error)}") from error

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        with warnings.catch_warnings():
            # Lightning's advice is for scripts that give both, the process's words and their own.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended", category=UserWarning)
            super().parse_arguments(parser, args)
        settings = self.config.get(str(self.config.get("subcommand")), self.config)
        seed = settings.get("seed_everything")
        if seed is False and self.config.get("subcommand") == "fit":
            raise InputError("seed_everything=false: a run without a seed can be neither repeated nor proved; give one")
        check_seed(seed, "seed_everything")

    @override
    def _parse_ckpt_path(self) -> None:
        # Lightning's own unpickles the checkpoint, to take the model's settings from it if no others are given.
        settings = self.config.get(str(self.config.get("subcommand")), {})
        path = settings.get("ckpt_path")
        if path == "":
            raise InputError("ckpt_path is empty; give a checkpoint's file, or leave it out")
        if path and path not in ("best", "last", "hpc") and not Path(path).is_file():
            raise InputError(f"there is no checkpoint at {path}")
        if path and Path(path).is_file():
            read_checkpoint(path, with_tensors=False)

    def before_fit(self) -> None:
        """Look at what training would fail of later, hold the run's folder, and resume an interrupted run."""
        check_trainer(self.trainer)
        settings = self.config[str(self.subcommand)]
        writes = self.trainer.is_global_zero and not self.trainer.fast_dev_run  # type: ignore[attr-defined]
        if writes:
            check_trainer_folders(self.trainer, run_folder(self.trainer))
        if settings.ckpt_path != "last":  # which a fit begins without, too
            self._check_named_checkpoint()
        if self.resumption is not None and self.resumption.run is not None:
            parser: Any = self._parser(self.subcommand)
            self.resumption.restore(self.trainer, parser.dump(settings, skip_none=False))
        elif writes:
            hold_new(self.trainer, self._held)
            if self.resumption is None and not settings.ckpt_path:
                _refuse_a_run_in_the_place_of_another(self.trainer)

    def after_fit(self) -> None:
        """Say why a fit ended early, where the best model is, and how to test it."""
        for line in ending(self.trainer):
            rank_zero_info(line)
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if best:
            rank_zero_info(f"Best model: {best}\nTest it: lit-dist test --config {self.trainer.log_dir}/config.yaml"
                           f" --ckpt_path {best}")  # fmt: skip

    def before_predict(self) -> None:
        """Check the checkpoint and the run's folder; the table of a test or a validation is the model's own."""
        if self.subcommand != "predict":
            self.config_init[str(self.subcommand)]["verbose"] = False
        self._check_evaluation()

    before_test = before_validate = before_predict

    def _check_named_checkpoint(self) -> None:
        word = self.config[str(self.subcommand)].ckpt_path
        if word in ("best", "last", "hpc") and named_checkpoint(self.trainer, word) is None:
            raise InputError(f"--ckpt_path {word}: there is no such checkpoint here; give a checkpoint's file")

    def _check_evaluation(self) -> None:
        if self.trainer.loggers or self.subcommand == "predict":
            check_run(run_folder(self.trainer))
        self._check_named_checkpoint()
        settings = self.config[str(self.subcommand)]
        given = settings.ckpt_path or settings.model.init_args.get("weights")
        if isinstance(self.model, SupervisedModule) and not given:
            rank_zero_warn(
                f"{self.subcommand} has no --ckpt_path, so the model has its first weights, random weights that nothing"
                " has trained"
            )


def _refuse_a_run_in_the_place_of_another(trainer: Trainer) -> None:
    ledger = run_folder(trainer) / LEDGER
    # Lightning's own logger would delete the rows that are there.
    if any(isinstance(logger, CSVLogger) for logger in trainer.loggers) and ledger.is_file() and ledger.stat().st_size:
        raise InputError(
            f"{ledger.parent} has the record of a run: resume it with --resume, or give the logger another version"
        )


def run(args: ArgsType = None, others: Iterable[str] = ()) -> LightningCLI:
    """Run a command, as ``lit-dist`` does, and let errors through.

    Args:
        args: The command's words; those of the process by default.
        others: The names of commands that are not Lightning's, for the help.

    Returns:
        The finished command, with its ``trainer``, ``model`` and ``datamodule``.
    """
    return site_cli(args, run=True, others=others)


class _FitCLI(SiteCLI):
    """The command ``fit`` alone, since the parsers of the others take as long to make as a short run takes to train."""

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        return {"fit": SiteCLI.subcommands()["fit"]}


def fit(args: list[str]) -> LightningCLI:
    """Run ``lit-dist fit``, for a program that does nothing else.

    Args:
        args: The words that follow it.
    """
    return site_cli(["fit", *args], run=True, kind=_FitCLI)


def build(settings: dict[str, Any]) -> SiteCLI:
    """Make what the settings name, and run nothing.

    Args:
        settings: Those of a ``config.yaml``: ``seed_everything``, ``model``, ``data`` and ``trainer``.

    Returns:
        The command, with its ``trainer``, ``model`` and ``datamodule``.
    """
    return site_cli(copy.deepcopy(settings), run=False)  # the parser changes what it is given


def own_parts(data: dict[str, Any], trainer: dict[str, Any]) -> tuple[LightningDataModule, dict[str, Any]]:
    """Make a machine's own datamodule, and what it gives to a trainer, of the settings of both.

    Returns:
        The datamodule, and the arguments with the objects that they name.
    """
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    given = parser.parse_object(copy.deepcopy({"data": data, "trainer": trainer}))
    check_kinds(given)
    made = parser.instantiate_classes(given)
    return made["data"], {name: made["trainer"][name] for name in trainer}


def site_cli(args: ArgsType, run: bool, kind: type[SiteCLI] = SiteCLI, others: Iterable[str] = ()) -> SiteCLI:
    """Lightning's command line with our defaults.

    Args:
        args: Words or settings; None takes the process's words.
        run: Whether there are subcommands, and the one that is given is run.
        kind: Its class.
        others: The names of further commands, for the help.
    """
    return kind(
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,  # the model takes its optimizer itself
        seed_everything_default=0,
        save_config_callback=SaveConfigCallback if run else None,
        save_config_kwargs={"overwrite": True},
        parser_class=SiteParser,
        trainer_defaults={"callbacks": [PredictionWriter()]},
        parser_kwargs={
            "version": f"lit-dist {version('lit_dist')}",
            "description": "Train one network over several hospitals.",
        },
        args=args,
        run=run,
        others=others,
    )
