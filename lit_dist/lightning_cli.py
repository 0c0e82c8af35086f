"""SiteCLI: Lightning's command line, with our classes known by their short names."""

import copy
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

# Imported so that a configuration can name their classes without their modules.
import lit_dist.datamodules
import lit_dist.ensemble  # noqa: F401
from lit_dist.baton import read_checkpoint
from lit_dist.callbacks import PredictionWriter, RunCheckpoint
from lit_dist.callbacks.ending import ending
from lit_dist.checkpoint_io import SafetensorsCheckpointIO
from lit_dist.class_kinds import check_kinds
from lit_dist.classifier import ImageClassifier
from lit_dist.cli import OTHER_COMMANDS
from lit_dist.errors import InputError
from lit_dist.lightning_internals import end_auto_requeue, take_up_only_what_is_named
from lit_dist.resumption import Resumption

PARTS = ("seed_everything", "model", "data", "trainer")
"""The settings of ``fit`` that a run is built of."""


class SiteCLI(LightningCLI):
    """Lightning's command line, with checkpoints that need no pickle, and runs that can be gone on with."""

    resumption: Resumption | None = None

    @override
    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
        if add_subcommands:  # set after them, since the usage of each would begin with it
            self.parser.usage = f"lit-dist {{{','.join([*self.subcommands(), *OTHER_COMMANDS])}}} ..."

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--resume", action="store_true", help="fit: go on with the newest run, if it has begun.")
        parser.add_class_arguments(RunCheckpoint, "checkpoint")

    @override
    def instantiate_classes(self) -> None:
        given, name = self.config, str(self.subcommand)
        check_kinds(given.get(name) or given)
        if given.get(name) and given[name].get("resume"):
            if name != "fit":
                raise InputError(f"--resume goes on with a fit; {name} takes --ckpt_path")
            self.config = given.clone()
            self.resumption = Resumption(self.config[name])
            given[name].resume = False
            if self.resumption.run is not None:
                self.save_config_callback = None
        self._given = given
        super().instantiate_classes()

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self.config = self._given  # what a run leaves does not say where it went on
        settings = self.config_init[self.subcommand] if self.subcommand else self.config_init
        trainer = settings["trainer"]
        plugins = as_list(trainer["plugins"])
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, SafetensorsCheckpointIO()]
        writes = trainer["enable_checkpointing"] is not False and not trainer["barebones"]
        if self.subcommand == "fit" and writes:
            kwargs["callbacks"] = [*as_list(trainer["callbacks"]), settings["checkpoint"]]
        made = super().instantiate_trainer(**kwargs)
        take_up_only_what_is_named(made)
        if self.subcommand != "fit" or not writes:  # else RunCheckpoint listens for it
            end_auto_requeue(made)
        return made

    @override
    def _parse_ckpt_path(self) -> None:
        # Lightning's own unpickles the checkpoint, to take the model's settings from it if no others are given.
        settings = self.config.get(str(self.config.get("subcommand")), {})
        path = settings.get("ckpt_path")
        if path and path not in ("best", "last", "hpc") and not Path(path).is_file():
            raise InputError(f"there is no checkpoint at {path}")
        if path and Path(path).is_file():
            read_checkpoint(path, with_tensors=False)

    def before_fit(self) -> None:
        """Go on where the run was interrupted."""
        if self.resumption is not None and self.resumption.run is not None:
            parser: Any = self._parser(self.subcommand)
            self.resumption.check_settings(parser.dump(self.config[str(self.subcommand)], skip_none=False))
            self.resumption.restore_logs(self.trainer)

    def after_fit(self) -> None:
        """Say why a fit ended early, where the best model is, and how to test it."""
        for line in ending(self.trainer):
            rank_zero_info(line)
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if best:
            rank_zero_info(f"Best model: {best}\nTest it: lit-dist test --config {self.trainer.log_dir}/config.yaml"
                           f" --ckpt_path {best}")  # fmt: skip

    def before_test(self) -> None:
        """Leave the table to the model."""
        self.config_init["test"]["verbose"] = False
        self._warn_of_first_weights()

    def before_validate(self) -> None:
        """Leave the table to the model."""
        self.config_init["validate"]["verbose"] = False
        self._warn_of_first_weights()

    def before_predict(self) -> None:
        """See that there is something to predict with."""
        self._warn_of_first_weights()

    def _warn_of_first_weights(self) -> None:
        settings = self.config[str(self.subcommand)]
        given = settings.ckpt_path or settings.model.init_args.get("weights")
        if isinstance(self.model, ImageClassifier) and not given:
            rank_zero_warn(
                f"{self.subcommand} has no --ckpt_path, so the model has its first weights, random weights that nothing"
                " has trained"
            )


def as_list(setting: Any) -> list[Any]:
    """What a setting of the trainer has that takes nothing, one thing or a list, such as its callbacks."""
    if setting is None:
        return []
    return list(setting) if isinstance(setting, list | tuple) else [setting]


def run(args: ArgsType = None) -> LightningCLI:
    """Run a command, as ``lit-dist`` does, and let errors through.

    Args:
        args: The command's words; those of the process by default.

    Returns:
        The finished command, with its ``trainer``, ``model`` and ``datamodule``.
    """
    return site_cli(args, run=True)


def build(settings: dict[str, Any]) -> SiteCLI:
    """Make what the settings name, and run nothing.

    Args:
        settings: Those of a ``config.yaml``: ``seed_everything``, ``model``, ``data`` and ``trainer``.

    Returns:
        The command, with its ``trainer``, ``model`` and ``datamodule``.
    """
    with warnings.catch_warnings():
        # Lightning's advice is for scripts that give both, the process's words and their own.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended", category=UserWarning)
        return site_cli(copy.deepcopy(settings), run=False)  # the parser changes what it is given


def own_parts(data: dict[str, Any], trainer: dict[str, Any]) -> tuple[LightningDataModule, dict[str, Any]]:
    """Make a machine's own datamodule, and what it gives to a trainer.

    Args:
        data: The datamodule, as ``class_path`` and ``init_args``.
        trainer: Arguments of the trainer by name.

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


def site_cli(args: ArgsType, run: bool, kind: type[SiteCLI] = SiteCLI) -> SiteCLI:
    """Lightning's command line with our defaults.

    Args:
        args: Words or settings; None takes the process's words.
        run: Whether there are subcommands, and the one that is given is run.
        kind: Its class.
    """
    return kind(
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,  # the model takes its optimizer itself
        seed_everything_default=0,
        save_config_callback=SaveConfigCallback if run else None,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={"callbacks": [PredictionWriter()]},
        parser_kwargs={
            "version": f"lit-dist {version('lit_dist')}",
            "description": "Train one network over several hospitals. Also: lit-dist compare, which trains every"
            " heuristic and compares them; lit-dist prepare, which prepares the images and shows them; lit-dist verify"
            " RUN, which checks what a run has recorded; and lit-dist federate, which makes a run across real"
            " institutions.",
        },
        args=args,
        run=run,
    )
