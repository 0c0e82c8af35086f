"""The model of a study's run, also of an ensemble, whose members are other runs of the study."""

from pathlib import Path

from lit_dist.runs.trained import TrainedRun, load_run
from lit_dist.study.execute import FIT, ensemble_settings
from lit_dist.study.plan import PLAN, read_run, run_path


def load_study_run(folder: Path, checkpoint: Path | None = None, accelerator: str = "auto") -> TrainedRun:
    """Load the model of any run.

    Args:
        folder: The run's folder; of a study's run, that folder or its part ``fit``.
        checkpoint: The file with the weights; the run's ``best.ckpt`` by default.
        accelerator: Where it is to compute, as Lightning's trainer has it.

    Raises:
        InputError: If the folder has no such run, or the weights do not fit.
    """
    home = folder.parent if folder.name == FIT else folder
    if (home / PLAN).is_file() and (run := read_run(home)).members:
        study = home.resolve().parents[1]
        member = run_path(study, run.members[0]) / FIT  # which has its sites, and the names of its classes
        return load_run(member, checkpoint, accelerator, ensemble_settings(run, study))
    return load_run(home / FIT if (home / PLAN).is_file() else folder, checkpoint, accelerator)
