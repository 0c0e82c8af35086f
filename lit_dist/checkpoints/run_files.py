"""Whether what a run will write into its folder can be written: looked at before the run changes anything."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lit_dist.checkpoints.run_folder import CHECKPOINTS, LEDGER, SETTINGS, SIGNATURE, SPLITS
from lit_dist.checkpoints.staying_files import FOLDER as STAYING
from lit_dist.utils.atomic_write import PARTIAL, check_file, check_folder, check_kind

if TYPE_CHECKING:  # imported where it is used: checking a run needs no trainer
    from lightning.pytorch import Trainer

FILES = (
    *(LEDGER, SETTINGS, "hparams.yaml", "metrics.csv", "metrics.before.csv", SPLITS, "site_matrix.csv"),
    *(SIGNATURE, "predictions.csv", "cross_site.csv", "sites.json", "command", "lock", "lock.json"),
)
"""The names of the files that runs, tests and predictions write into their folders."""

_ENDINGS = (".ckpt", ".baton", ".local", ".state", PARTIAL)


def check_run(run: Path, files: Iterable[str] = FILES) -> None:
    """See that a run can write its files and checkpoints into its folder, which may be missing.

    Raises:
        InputError: If a pipe, a socket, a device, a folder or a link to nowhere has the name of one, or this user may
            not write it.
    """
    check_folder(run)
    for name in files:
        check_file(run / name)
    check_states(run / CHECKPOINTS)
    check_states(run / CHECKPOINTS / STAYING)


def check_trainer_folders(trainer: "Trainer", run: Path) -> None:
    """See that the files of a trainer's run can be written, also those that callbacks and profiler put elsewhere.

    The run's folder is its ``run_folder``, for which all its processes have to ask.

    Raises:
        InputError: As for ``check_run``.
    """
    check_run(run)
    for part in (*trainer.callbacks, trainer.profiler):  # type: ignore[attr-defined]
        for name in ("dirpath", "baton_dir", "output_dir"):
            folder = getattr(part, name, None)
            if isinstance(folder, str | Path) and "://" not in str(folder):
                check_states(run / folder if name == "baton_dir" else Path(folder))


def check_states(folder: Path) -> None:
    """See that checkpoints and batons can be written into a folder, which may be missing.

    Raises:
        InputError: As for ``check_run``.
    """
    check_folder(folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith(_ENDINGS):
            check_kind(path)
