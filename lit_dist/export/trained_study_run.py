"""The model of a study's run, also of an ensemble, whose members are other runs of the study."""

from pathlib import Path

from lit_dist.checkpoints.run_folder import CHECKPOINTS, SETTINGS
from lit_dist.runs.trained import TrainedRun, load_run
from lit_dist.study.execute import FIT, ensemble_settings
from lit_dist.study.run import PLAN, read_run, run_path
from lit_dist.utils.errors import InputError

_SHOWN = 6


def load_study_run(folder: Path, checkpoint: Path | None = None, accelerator: str = "auto") -> TrainedRun:
    """Load the model of any run.

    Args:
        folder: The run's folder; of a study's run, that folder or its part ``fit``; or a checkpoint in a run's folder.
        checkpoint: The file with the weights; the run's ``best.ckpt`` by default.
        accelerator: Where it is to compute, as Lightning's trainer has it.

    Raises:
        InputError: If the folder has no such run, or the weights do not fit.
    """
    if folder.is_file() and folder.suffix == ".ckpt" and checkpoint is None:
        folder, checkpoint = folder.resolve().parent, folder
    if folder.name in (SETTINGS, CHECKPOINTS):
        folder = folder.resolve().parent
    _check(folder)
    home = folder.parent if folder.name == FIT else folder
    if (home / PLAN).is_file() and (run := read_run(home)).members:
        study = home.resolve().parents[1]
        member = run_path(study, run.members[0]) / FIT  # which has its sites, and the names of its classes
        return load_run(member, checkpoint, accelerator, ensemble_settings(run, study))
    return load_run(home / FIT if (home / PLAN).is_file() else folder, checkpoint, accelerator)


def _check(folder: Path) -> None:
    """Refuse what is no run's folder, with the names of the runs in it."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: name a run's, such as runs/phantom/cyclical/version_0")
    if any((folder / name).exists() for name in (SETTINGS, PLAN)) or folder.name == FIT:
        return
    places = [f"{part}/{name}" for name in (SETTINGS, PLAN) for part in ("*", "*/*")]
    found = [path.parent for place in places for path in folder.glob(place) if path.parent.name != FIT]
    if found:
        names = ", ".join(map(str, sorted(found)[:_SHOWN])) + " ..." * (len(found) > _SHOWN)
        raise InputError(f"{folder} holds several runs: name one of {names}" if len(found) > 1 else
                         f"{folder} holds a run: name {names}")  # fmt: skip
