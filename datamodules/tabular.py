"""TabularDataModule: the rows of a table, as measures of patients are, at real or simulated sites."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from typing_extensions import override

from lit_dist.datamodules import table_columns
from lit_dist.datamodules.base import SiteDataModule
from lit_dist.datamodules.label_table import refuse_repeats
from lit_dist.datamodules.people import people
from lit_dist.datamodules.table_columns import ORIGIN
from lit_dist.datamodules.table_file import read_table_file
from lit_dist.datamodules.table_rows import TableRows, as_batch
from lit_dist.tasks.named import TaskName, named_task
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError

_ROW = "row of the values"
_NAME, _SITE = "name of the record", "site of the file"  # no column of a file is called so
_SEVERAL = ("multilabel", "survival")


class TabularDataModule(SiteDataModule):
    """Rows of a CSV, TSV or Parquet table, each a record with a target and features, for ``TabularPredictor``.

    A batch is ``(inputs, targets)``: inputs are float32, (records, columns), raw values, the numeric columns first, NaN
    where a value is missing; a category is a code that its text alone decides, so that sites agree on it without a
    list. Means, deviations and known categories are learnt by the model, from sums that leave the sites, not here.

    Args:
        table: The table's file, relative to ``root``; or, where each hospital has a file of its own, these by site.
        target: The column of what is predicted. For several findings, one column each, of 0 and 1; for a survival time,
            that of the time and that of the event (1, or 0 where it is censored).
        root: The folder of the tables.
        header: The names of the columns of files that have no header.
        task: What is predicted: ``"classification"``, ``"ordinal"``, ``"multilabel"``, ``"regression"`` or
            ``"survival"``.
        classes: The names of the classes, grades or findings, in their order. Of classes they are the texts in the
            table, unless there are ``thresholds``; of findings, by default, the columns of ``target``.
        thresholds: Makes classes of a number: the class is how many of these it is above.
        features: The columns that are learnt from; by default all that are not named here otherwise.
        exclude: Columns that are not.
        categorical: The columns of the features that hold categories; all others hold numbers.
        site_column: The column with the hospitals; without it, and with one file, sites are simulated.
        id_column: The column with the records' names; by default they are called by their rows.
        patient_column: The column with the patients; by default each record is of one.
        missing: The texts that stand for a missing value, in letters of any size; ``-9`` is ``-9.0``, too. A record
            whose target is missing is left out.
        standardise_sites: Whether each site's numeric columns are standardised by its own training records. It takes
            out what differs between sites, and with it a target that does.
        batch_size: The number of records in a batch.
        **kwargs: Further arguments of ``SiteDataModule``.

    Attributes:
        numeric_columns: The names of the numeric columns, in the order of a batch.
        categorical_columns: Those of the categories, which follow.

    Raises:
        InputError: If a setting does not fit, or a table is not as it should be; the message names file and row.
    """

    def __init__(
        self,
        table: str | dict[str, str],
        target: str | list[str],
        root: str | Path = ".",
        header: list[str] | None = None,
        task: TaskName = "classification",
        classes: list[str] | None = None,
        thresholds: list[float] | None = None,
        features: list[str] | None = None,
        exclude: list[str] | None = None,
        categorical: list[str] | None = None,
        site_column: str | None = None,
        id_column: str | None = None,
        patient_column: str | None = None,
        missing: Sequence[str] = ("", "?", "NA", "nan"),
        standardise_sites: bool = False,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.target = [target] if isinstance(target, str) else list(target)
        if classes is None and task == "multilabel":
            classes = self.target
        if classes is None and task in ("classification", "ordinal"):
            raise InputError(f"classes is missing: name the texts of {self.target[0]!r} in the table, in their order")
        self._task = named_task(task, classes)
        self.class_names = classes or ()
        self.thresholds = sorted(thresholds or [])
        self.tables = {"": table} if isinstance(table, str) else dict(table)
        self.root = Path(root)
        self.header = header or []
        self.categorical = categorical or []
        self.features, self.exclude = features, exclude or []
        self.named = {"site": site_column, "image": id_column, "patient": patient_column}
        self.missing = {table_columns.plain(text).lower() for text in missing}
        self.standardise_sites = standardise_sites
        known = self.features or [name for name in self.header if name not in {*self.target, *self.exclude}]
        chosen = [name for name in known if name not in self.named.values()]
        self.numeric_columns = [name for name in chosen if name not in self.categorical]
        self.categorical_columns = [name for name in chosen if name in self.categorical]
        self._values: Tensor | None = None
        self._check_settings()

    def _check_settings(self) -> None:
        task, several = self._task, len(self.target)
        most = {"multilabel": task.outputs, "survival": 2}.get(task.name, 1)
        if not self.tables or several not in (1, most):
            raise InputError(f"target={self.target} has {several} columns; task={task.name} takes {most}")
        if self.thresholds and (
            task.name not in ("classification", "ordinal") or task.outputs - 1 != len(self.thresholds)
        ):
            raise InputError(
                f"thresholds={self.thresholds} make {len(self.thresholds) + 1} classes; name as many under classes,"
                " with task=classification or ordinal"
            )
        if not np.isfinite(self.thresholds).all():
            raise InputError(f"thresholds={self.thresholds} are not numbers")
        for name, each in (("classes", self.class_names), ("features", self.features or ())):
            if twice := [text for place, text in enumerate(each) if text in each[:place]]:
                raise InputError(f"{name} names {twice[0]!r} twice")
        if isinstance(self.named["site"], str) and "" not in self.tables:
            raise InputError("table names one file a site, so there is no site_column: leave it out")

    @property
    @override
    def learning_task(self) -> Task:
        return self._task

    @override
    def signature(self) -> dict[str, Any]:
        columns = {"numeric": self.numeric_columns, "categorical": self.categorical_columns}
        return {**super().signature(), **columns}

    # -- the table ---------------------------------------------------------------------------------------------------

    @override
    def read_records(self) -> pd.DataFrame:
        parts = [self._read(site, name) for site, name in self.tables.items()]
        if self.features is None:
            self._check_alike(parts)
        table = pd.concat(parts, ignore_index=True)
        self._choose_columns(table)
        records = people(table).map(lambda text: "" if table_columns.are_missing([text], self.missing)[0] else text)
        records = records.assign(image=table[self.named["image"] or _NAME])
        records["patient"] = table[self.named["patient"]] if self.named["patient"] else records["image"]
        if self.named["site"] or "" not in self.tables:
            records["site"] = table[self.named["site"] or _SITE]
        absent = np.zeros(len(table), bool)
        for column in self.target:
            absent |= table_columns.are_missing(table[column].tolist(), self.missing)
        self.leave_out(records[absent], f"without a value of {' and '.join(self.target)}")
        records, table = records[~absent].reset_index(drop=True), table[~absent].reset_index(drop=True)
        if records.empty:
            raise InputError(f"no row of {', '.join(self.tables.values())} has a value of {' and '.join(self.target)}")
        self._values = self._read_values(table, self.numeric_columns, self.categorical_columns)
        found = table_columns.labels(table, self.target, self._task, self.thresholds)
        return records.assign(label=found, **{_ROW: np.arange(len(records))})

    def _read(self, site: str, name: str) -> pd.DataFrame:
        path = self.root / name
        named = [column for column in self.named.values() if column]
        wanted = [*self.target, *named, *(self.features or []), *self.categorical, *self.exclude]
        table = read_table_file(path, list(dict.fromkeys(wanted)), self.header, named)
        if self.named["image"] is None:
            rows = table[ORIGIN].str.rpartition(" ")[2]
            table[_NAME] = f"{site}-" * bool(site) + rows
        else:
            refuse_repeats(table, self.named["image"], path)
        return table.assign(**{_SITE: site})

    def _check_alike(self, parts: Sequence[pd.DataFrame]) -> None:
        """Where all columns are features, each file has to have the same."""
        own = {*self.exclude, *self.target, _NAME}
        for name, part in zip(self.tables.values(), parts, strict=True):
            if apart := sorted(({*map(str, part)} ^ {*map(str, parts[0])}) - own):
                raise InputError(
                    f"{name} and {next(iter(self.tables.values()))} differ in the column {apart[0]!r} ({len(apart)}"
                    " such columns): name those to learn from under features, or exclude it"
                )

    def new_rows(self, path: Path, numeric: Sequence[str], categorical: Sequence[str]) -> tuple[Tensor, pd.DataFrame]:
        """The values of another table's records, by the rules of this one, and all of that table as text.

        Args:
            path: The file, with a header or, where there is a ``header``, without one; the target may lack.
            numeric: The names of the numeric columns.
            categorical: Those of the categories, which follow.

        Raises:
            InputError: If a column lacks, or a cell is no number; the message names file, row and column.
        """
        table = self._read_new(path, [*numeric, *categorical])
        for name in (*numeric, *categorical):
            if f"{name}.1" in table:
                raise InputError(f"{path} has the column {name!r} twice: rename one")
        values = self._read_values(table, numeric, categorical)
        return values, table.drop(columns=ORIGIN)

    def _read_new(self, path: Path, wanted: Sequence[str]) -> pd.DataFrame:
        without_target = [name for name in self.header if name not in self.target]
        for header in ([], self.header, without_target) if self.header else ():
            with suppress(InputError):
                return read_table_file(path, wanted, header, [])
        return read_table_file(path, wanted, [], [])

    def _choose_columns(self, table: pd.DataFrame) -> None:
        other = {*self.target, *self.exclude, *(each for each in self.named.values() if each), ORIGIN, _NAME, _SITE}
        unnamed = [str(name) for name in table if str(name).startswith("Unnamed: ")]
        chosen = self.features or [str(name) for name in table if name not in {*other, *unnamed}]
        if unnamed and self.features is None:
            rank_zero_info(f"{len(unnamed)} columns without a name are not learnt from")
        for name in (*chosen, *self.categorical):
            if name in other:
                raise InputError(
                    f"{name!r} is a feature, and the target, a site's, record's or patient's name, or excluded"
                )
            if f"{name}.1" in table:
                raise InputError(
                    f"{name!r} stands twice among the columns, or beside one called '{name}.1': rename one"
                )
        apart = [name for name in self.categorical if name not in chosen]
        if apart or not chosen:
            raise InputError(f"categorical names {apart or 'nothing'}, and the features are {chosen or 'none'}"[:500])
        self.categorical_columns = [name for name in chosen if name in self.categorical]
        self.numeric_columns = [name for name in chosen if name not in self.categorical]

    def _read_values(self, table: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> Tensor:
        columns = [table_columns.numbers(table, name, self.missing) for name in numeric]
        columns += [table_columns.category_codes(table, name, self.missing) for name in categorical]
        return torch.from_numpy(np.stack(columns, axis=1))

    # -- the records -------------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._standardise()

    @override
    def dataset(self, sites: Sequence[str], split: str) -> TableRows:
        table = self.table.iloc[self.rows_of(sites, split)].reset_index(drop=True)
        values = self._standardise()[torch.tensor(table[_ROW].to_numpy(np.int64))]
        return TableRows(values, torch.tensor(self._task.targets(table["label"].to_numpy())), table)

    def _standardise(self) -> Tensor:
        """The values of all records; each site's by itself, where that is asked for."""
        self._open()
        assert self._values is not None
        if self.standardise_sites:
            self.standardise_sites = False
            rank_zero_warn(
                "standardise_sites takes out of the columns what differs between sites, and with it a target that does:"
                " where sites differ in age, say, the error of age grows"
            )
            for site in self.sites:
                own = self.table[self.table["site"] == site]
                rows = np.array(own[_ROW], np.int64)
                learnt = (own["split"] == "train").to_numpy() | (site in self.external)  # which has no others
                standardise(self._values, rows, rows[learnt], len(self.numeric_columns))
        return self._values

    @override
    def _loading(self) -> dict[str, Any]:
        return {**super()._loading(), "collate_fn": as_batch}


def standardise(values: Tensor, rows: Any, train: Any, numeric: int) -> None:
    """Standardise the numeric columns of some rows by others, in place."""
    with np.errstate(invalid="ignore"):
        known = np.ma.masked_invalid(values[train, :numeric].numpy().astype(np.float64))
        mean, spread = known.mean(axis=0).filled(0.0), known.std(axis=0).filled(0.0)
    scale = np.where(spread > 1e-7 * np.abs(mean), 1 / np.where(spread > 0, spread, 1), 0.0)
    values[rows, :numeric] = torch.from_numpy(((values[rows, :numeric].numpy() - mean) * scale).astype(np.float32))
