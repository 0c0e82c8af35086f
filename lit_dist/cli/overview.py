"""What ``lit-dist`` says of itself: its commands with a line each, and the versions that a report of a fault needs."""

import platform
from importlib.metadata import PackageNotFoundError, version

COMMANDS = {
    "fit": "train a network by a configuration",
    "validate": "judge a trained network by the validation records of every site",
    "test": "judge it by the test records of every site",
    "predict": "predict the test records; new images or tables with RUN --images FOLDER, or RUN --table FILE",
    "compare": "train and compare every heuristic: a study with tables, figures and a report",
    "prepare": "prepare the images of a collection, and show what was made of them",
    "export": "write a run's model for programs without lit_dist, with a model card",
    "crate": "pack a study for others, who can verify it",
    "verify": "check what a run has recorded, and repeat its visits; check the crate of a study",
    "federate": "make a run across real institutions, each with its own data",
}
"""Every command, and what it is for."""

LIGHTNINGS = ("fit", "validate", "test", "predict")
"""Those of Lightning's command line; each other one is a module of this package."""

_NAMED = (
    *("lightning", "torch", "torchvision", "torchmetrics", "numpy", "albumentations", "wandb"),
    *("matplotlib", "pydicom", "nvflare"),  # of extras
)


def overview() -> str:
    """The commands with a line each, and where to begin."""
    commands = "\n".join(f"  {name:<10}{line}" for name, line in COMMANDS.items())
    return f"""\
usage: lit-dist COMMAND ...

Train one network over several hospitals: the model travels, the data does not.

{commands}

  lit-dist COMMAND --help   the options of a command
  lit-dist --version        the versions to name in a report of a fault
  lit-dist --print-completion bash   completion by TAB, for bash, zsh or fish

Begin with four simulated hospitals, nothing to download:

  lit-dist compare --config configs/phantom/compare.yaml"""


def versions() -> str:
    """The version of lit_dist, and of what it stands on."""
    found = [f"Python {platform.python_version()}", platform.platform()]
    for name in _NAMED:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} is not installed")
    return f"lit-dist {version('lit_dist')}\n" + "\n".join(f"  {each}" for each in found)
