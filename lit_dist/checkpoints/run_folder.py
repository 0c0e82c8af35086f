"""What a run's folder holds, and the newest state of the run in it."""

import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_dist.checkpoints.baton import read_checkpoint
from lit_dist.checkpoints.staying_files import delete_unnamed
from lit_dist.utils.atomic_write import PARTIAL
from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import check_parts
from lit_dist.utils.yaml_text import read_yaml

if TYPE_CHECKING:  # imported where it is used: checking a run needs no trainer
    from lightning.pytorch import Trainer

CHECKPOINTS = "checkpoints"
LEDGER = "ledger.jsonl"
SETTINGS = "config.yaml"
SPLITS = "splits.csv"
SIGNATURE = "signature.json"
"""What has to be known of a run's records to predict new ones: see ``SiteRecords.signature``."""


def run_folder(trainer: "Trainer") -> Path:
    """The folder of a trainer's run. To be called by every process: Lightning tells all of them the first one's."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def foreign_checkpoint(trainer: "Trainer") -> Path | None:
    """The checkpoint that a fit was begun with, if it is of another run: it lies outside the run's folder."""
    path = Path(trainer.ckpt_path or "").resolve()
    return path if path.is_file() and run_folder(trainer).resolve() not in path.parents else None


def checkpoint_path(run: Path, step: int) -> Path:
    """The file of the state after an optimizer step."""
    return run / CHECKPOINTS / f"step_{step:08d}.ckpt"


def read_settings(path: Path, needed: Sequence[str] = ("model", "trainer")) -> dict[str, Any]:
    """Read the ``config.yaml`` that a run has left, with the groups of settings without which it is none.

    Raises:
        InputError: If the file is not what a run leaves.
    """
    settings, why = None, f"it needs {', '.join(needed)}"
    try:
        settings = read_yaml(path)
    except (InputError, OSError) as error:
        why = " ".join(str(error).split())
    if not isinstance(settings, dict) or not all(isinstance(settings.get(name), dict) for name in needed):
        raise InputError(
            f"{path} is not the configuration that lit-dist fit leaves ({why}). Put back a copy, or write it anew with"
            f" the settings that the run has had: lit-dist fit ... --print_config > {path}"
        )
    return settings


def newest_checkpoint(run: str | Path) -> Path | None:
    """The newest whole checkpoint that ``RunCheckpoint`` left in a run's folder.

    Args:
        run: The run's folder, such as ``runs/phantom/cyclical/version_0``.

    Returns:
        The file; None if there is none.

    Raises:
        InputError: If there are some, and none of them is whole.
    """
    error = None
    for path in checkpoints_of(Path(run)):
        try:
            check_parts(read_checkpoint(path, with_tensors=False))
        except InputError as damage:
            from lightning.pytorch.utilities import rank_zero_warn

            rank_zero_warn(f"{damage}; it is passed over")
            error = error or damage
        else:
            return path
    if error is not None:
        raise error
    return None


def delete_old_checkpoints(run: Path, keep: int, needed: Set[str] = frozenset()) -> None:
    """Delete all but the newest checkpoints, and what was left of one that was being written.

    With them goes what stays at sites that no checkpoint names, except for files that a fit ``needed``.
    """
    for old in checkpoints_of(run)[keep:]:
        old.unlink(missing_ok=True)
    for left in (run / CHECKPOINTS).glob(f".*{PARTIAL}"):
        left.unlink(missing_ok=True)
    delete_unnamed(run / CHECKPOINTS, needed)


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoints that ``RunCheckpoint`` left in a run's folder, whole or not, the newest first.

    Raises:
        InputError: If what is there is no folder that may be read.
    """
    for folder in (run, run / CHECKPOINTS):
        if os.path.lexists(folder) and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
            raise InputError(f"{folder} is not a folder that you can read: change its permissions, or move it away")
    return sorted((run / CHECKPOINTS).glob("step_*.ckpt"), reverse=True)
