"""The records of a packed study: whether its splits agree, and Table 1 follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lit_dist.checkpoints.run_folder import SPLITS
from lit_dist.datamodules.base import Loader, SiteDataModule
from lit_dist.datamodules.splits import COLUMNS, check_splits
from lit_dist.study.execute import FIT
from lit_dist.study.run import Run, run_path
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

_LOADED = ("batch_size", "centralized", "only_site", "external")


class PackedRecords(SiteDataModule):
    """The records of a packed study by their numbers alone: sites, splits and batches are those of the real ones.

    Args:
        table: The records, with the columns of ``splits.csv``, as the study itself has them.
        sites: The sites, in their order.
        task: What is predicted; None if it is the authors' own.
        given: The settings of a run's data.
    """

    def __init__(self, table: pd.DataFrame, sites: list[str], task: Task | None, given: Mapping[str, Any]) -> None:
        super().__init__(sites=sites, **{name: given[name] for name in _LOADED if given.get(name) is not None})
        self._task = task or Classification()
        self._table = self._without_external(table)

    def setup(self, stage: str) -> None:
        """Nothing is to be prepared, or written."""

    def read_records(self) -> pd.DataFrame:
        """The records."""
        return self.table

    @property
    def learning_task(self) -> Task:
        """What is predicted of them."""
        return self._task

    @property
    def validated(self) -> list[str]:
        """The sites whose validation records a run looks at."""
        return self._validated

    def training_loaders(self) -> dict[str, Loader]:
        """One training loader a site."""
        return {site: self._train_loader([site]) for site in self.training_sites}

    def dataset(self, sites: Sequence[str], split: str) -> Any:
        """Their rows."""
        return self.rows_of(sites, split)


@dataclass(frozen=True, slots=True)
class StudyRecords:
    """The records of a packed study.

    Attributes:
        table: One row a record, with the columns of ``splits.csv``, as text.
        unknown: The sites whose own splits are not known: the only packed runs are those that hold them out.
    """

    table: pd.DataFrame
    unknown: list[str]


def read_records(crate: Path, runs: Sequence[Run], external: Sequence[str]) -> StudyRecords:
    """Read the splits of all runs, and see that they agree, and that no patient is at two sites or in two splits.

    Args:
        crate: The study's folder.
        runs: Its runs.
        external: The sites that all of its runs are only tested on.

    Raises:
        InputError: If they do not.
    """
    parts: dict[tuple[str, bool], tuple[Path, pd.DataFrame]] = {}  # by site, and whether a run holds it out
    known: set[tuple[bytes, frozenset[str]]] = set()
    for run in runs:
        if run.members:
            continue
        path = run_path(crate, run.name) / FIT / SPLITS
        apart = frozenset(run.config["data"]["init_args"].get("external") or ()) - set(external)
        text = path.read_bytes() if path.is_file() else b""
        if (text, apart) in known:
            continue
        known.add((text, apart))
        own = _read(path)
        check_splits(own, str(path))
        for site in dict.fromkeys([*own["site"], *(site for site, _ in parts)]):
            part = own[own["site"] == site].sort_values(COLUMNS)
            if site in apart and (part["split"] != "test").any():
                raise InputError(f"{path}: {site!r} is held out, and has records that are not of the test")
            first, other = parts.setdefault((site, site in apart), (path, part))
            _check_same(path, part, first, other)
            if (both := parts.get((site, site not in apart))) is not None:
                _check_same(path, part.assign(split=""), both[0], both[1].assign(split=""))
    sites = list(dict.fromkeys(site for site, _ in parts))
    table = pd.concat([(parts.get((site, False)) or parts[site, True])[1] for site in sites])
    return StudyRecords(table.sort_index(), [site for site in sites if (site, False) not in parts])


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        table = pd.DataFrame()
    if not set(COLUMNS) <= set(table):
        raise InputError(f"{path} is missing, or has not the columns of a run's splits")
    return table[COLUMNS]


def _check_same(path: Path, part: pd.DataFrame, first: Path, other: pd.DataFrame) -> None:
    """See that two runs have the same records of a site, in the same places."""
    rows, others = part.to_numpy(), other.to_numpy()
    if np.array_equal(rows, others):
        return
    known = set(map(tuple, others.tolist()))
    for row, own in zip(part.index, rows.tolist(), strict=True):
        if tuple(own) not in known:
            raise InputError(
                f"{path}, row {row + 1}: {', '.join(own)} is not in {first}; runs of a study have one split"
            )
    raise InputError(f"{path} lacks records that {first} has; runs of a study have one split")
