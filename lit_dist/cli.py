"""The command line: Lightning's own, with our classes known by their short names."""

import os
import sys
import warnings
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from lightning.pytorch.cli import ArgsType, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

# Imported so that a configuration can name their classes without their modules.
import lit_dist.classifier
import lit_dist.datamodules  # noqa: F401
from lit_dist.callbacks import PredictionWriter
from lit_dist.errors import InputError


class SiteCLI(LightningCLI):
    """Lightning's command line, less the table of results that its own repeats for each loader."""

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
    return SiteCLI(
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,  # the model takes its optimizer itself
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={"callbacks": [PredictionWriter()]},
        parser_kwargs={"version": f"lit-dist {version('lit_dist')}"},
        args=args,
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
    sys.argv[1:] = [_shipped(word) for word in (sys.argv[1:] if args is None else args)]
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its error reports go out only if the user wants it
    try:
        run()
    except Exception as error:
        message = _mistake(error)
        if message is None:
            raise
        print(f"lit-dist: {message}", file=sys.stderr)
        sys.exit(1)


def _mistake(error: BaseException | None) -> str | None:
    """What the user can mend, if an error comes from that: the parser wraps what a class's constructor raises."""
    while error is not None:
        if isinstance(error, InputError):
            return str(error)
        if type(error).__module__.startswith("wandb.") and type(error).__name__ == "UsageError":
            return f"W&B: {error} (or set WANDB_MODE=offline to keep the run on this machine)"
        error = error.__cause__ or error.__context__
    return None


def _shipped(word: str) -> str:
    """Find a configuration that comes with the package, where the working folder has none of that name."""
    option, equals, name = word.rpartition("=")
    path = Path(name)
    if path.suffix != ".yaml" or path.exists() or path.parts[0] != "configs":
        return word
    shipped = Path(str(files("lit_dist"))) / path
    return f"{option}{equals}{shipped}" if shipped.exists() else word
