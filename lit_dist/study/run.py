"""Run: one run of a study, and its folder."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.errors import InputError

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a study.

    Attributes:
        name: What it is called, and its folder: it says what it is, and ends in a hash of its settings.
        heuristic: The name of the heuristic: a short one, or the user's.
        seed: The run's seed.
        steps: The greatest number of optimizer steps.
        config: The settings for ``lit-dist fit``, but for the loggers; an ensemble's have no model.
        site: Of a single-institution model, the site.
        every_n_epochs: Of cyclical weight transfer, the length of a visit.
        every_n_steps: The same in optimizer steps.
        order: Of a transfer, the order of the sites.
        optimizer_state: Of a transfer, what becomes of the optimizer's state.
        members: Of an ensemble, the names of the runs of its members.
        wandb: Arguments of the ``WandbLogger``, if there is to be one.
        base: Of a heuristic with a name of the user's, its kind.
        held_out: The site that the run is tested at, where each is held out in turn.
    """

    name: str
    heuristic: str
    seed: int
    steps: int
    config: dict[str, Any]
    site: str | None = None
    every_n_epochs: int | None = None
    order: str | None = None
    optimizer_state: str | None = None
    members: tuple[str, ...] = ()
    wandb: dict[str, Any] | None = None
    every_n_steps: int | None = None
    base: str | None = None
    held_out: str | None = None

    @property
    def kind(self) -> str:
        """The short name that says how it is trained, or ``OWN``."""
        return self.base or self.heuristic

    def write(self, study: Path) -> None:
        """Write the run's settings into its folder of a study, unless the same stand there, in whatever order."""
        path = run_path(study, self.name) / PLAN
        later = ("every_n_steps", "base", "held_out")  # than the first plans that may be there
        values = {name: value for name, value in asdict(self).items() if value is not None or name not in later}
        text = json.dumps(values, indent=1)
        known = None
        with suppress(OSError, ValueError):
            known = json.loads(path.read_bytes())
        if known != json.loads(text):
            with replacing(path) as file:
                file.write(text.encode())


def run_path(study: Path, name: str) -> Path:
    """The folder of a run."""
    return study / "runs" / name


def words_of(study: Path, name: str) -> list[str]:
    """The command, without ``lit-dist``, that does one run."""
    return ["compare", "--output", str(study), "--run", name]


def read_run(folder: Path) -> Run:
    """Read what ``Run.write`` wrote.

    Raises:
        InputError: If it is not there.
    """
    try:
        values = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return Run(**{**values, "members": tuple(values["members"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder} has no plan of a run ({error}); lit-dist compare --config ... writes it") from None
