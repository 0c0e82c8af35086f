"""The command line: Lightning's own, with our classes known by their short names."""

import copy
import gc
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

# Imported so that a configuration can name their classes without their modules.
import lit_dist.classifier
import lit_dist.datamodules
import lit_dist.ensemble  # noqa: F401
from lit_dist.baton import read_checkpoint
from lit_dist.callbacks import PredictionWriter, RunCheckpoint
from lit_dist.checkpoint_io import SafetensorsCheckpointIO
from lit_dist.errors import InputError
from lit_dist.resumption import Resumption

OTHER_COMMANDS = {
    "compare": "lit_dist.study.compare",
    "federate": "lit_dist.federation.federate",
    "prepare": "lit_dist.prepare",
    "verify": "lit_dist.verify",
}
"""Commands that are not Lightning's, by the module whose ``main`` runs them."""


class SiteCLI(LightningCLI):
    """Lightning's command line, with checkpoints that need no pickle, and runs that can be gone on with."""

    resumption: Resumption | None = None

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--resume", action="store_true", help="fit: go on with the newest run, if it has begun.")
        parser.add_class_arguments(RunCheckpoint, "checkpoint")

    @override
    def instantiate_classes(self) -> None:
        given, name = self.config, str(self.subcommand)
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
        plugins = trainer["plugins"] or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, SafetensorsCheckpointIO()]
        writes = trainer["enable_checkpointing"] is not False and not trainer["barebones"]
        if self.subcommand == "fit" and writes:
            kwargs["callbacks"] = [*(trainer["callbacks"] or []), settings["checkpoint"]]
        return super().instantiate_trainer(**kwargs)

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
        """Say where the best model is, and how to test it."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if best:
            rank_zero_info(f"Best model: {best}\nTest it: lit-dist test --config {self.trainer.log_dir}/config.yaml"
                           f" --ckpt_path {best}")  # fmt: skip

    def before_test(self) -> None:
        """Leave the table to the model."""
        self.config_init["test"]["verbose"] = False

    def before_validate(self) -> None:
        """Leave the table to the model."""
        self.config_init["validate"]["verbose"] = False


def run(args: ArgsType = None) -> LightningCLI:
    """Run a command, as ``lit-dist`` does, and let errors through.

    Args:
        args: The command's words; those of the process by default.

    Returns:
        The finished command, with its ``trainer``, ``model`` and ``datamodule``.
    """
    return site_cli(args, run=True)


def build(settings: dict[str, Any]) -> LightningCLI:
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


def main(args: list[str] | None = None) -> None:
    """Run a command; what the user can mend ends in a message without a traceback, and exit status 1.

    Args:
        args: The command's words; those of the process by default.
    """
    # Lightning itself uses a class that torch is about to rename; the user can do nothing about it.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
    # Each command writes into a folder of its own, so this is always so when a checkpoint is used.
    warnings.filterwarnings("ignore", message="The dirpath has changed from", category=UserWarning)
    # A test needs no state of the callback that only a fit has.
    warnings.filterwarnings(
        "ignore", message=r"(?s).*add the following callbacks: \['RunCheckpoint'\]", category=UserWarning
    )
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty", category=UserWarning)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its error reports go out only if the user wants it
    if args is None:
        gc.freeze()  # the process is ours; what it has imported stays, and is not searched for garbage again and again
    try:
        sys.argv[1:] = [_shipped(word) for word in (sys.argv[1:] if args is None else args)]
        _check_configurations(sys.argv[1:])
        _command(sys.argv[1:])()
    except SIGTERMException:
        print("lit-dist: told to end (SIGTERM); the state is saved, and --resume goes on from it", file=sys.stderr)
        sys.exit(143)  # as if the signal had ended it
    except Exception as error:
        message = _mistake(error)
        if message is None:
            raise
        print(f"lit-dist: {message}", file=sys.stderr)
        sys.exit(1)


def _command(words: list[str]) -> Callable[[], object]:
    if words and words[0] in OTHER_COMMANDS:
        module = import_module(OTHER_COMMANDS[words[0]])
        return lambda: module.main(words[1:])
    return run


def _mistake(error: BaseException | None) -> str | None:
    """What the user can mend, if an error comes from that: the parser wraps what a class's constructor raises."""
    while error is not None:
        if isinstance(error, InputError):
            return str(error)
        if type(error).__module__.startswith("wandb.") and type(error).__name__ == "UsageError":
            return f"W&B: {error} (or set WANDB_MODE=offline to keep the run on this machine)"
        error = error.__cause__ or error.__context__
    return None


def _check_configurations(words: list[str]) -> None:
    """Refuse a configuration that is no text, which the parser would end in a traceback."""
    pairs = [word.split("=", 1) for word in words if "=" in word] + list(map(list, pairwise(words)))
    for option, name in pairs:
        if option in ("--config", "-c", "--model", "--data", "--trainer") and Path(name).is_file():
            try:
                Path(name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{name} is no text, so it cannot be a configuration") from None


def _shipped(word: str) -> str:
    """Find a configuration that comes with the package, where the working folder has none of that name."""
    option, equals, name = word.rpartition("=")
    path = Path(name)
    if path.suffix != ".yaml" or path.exists() or path.parts[0] != "configs":
        return word
    shipped = Path(str(files("lit_dist"))) / path
    return f"{option}{equals}{shipped}" if shipped.exists() else word
