"""The methods of a study's data in words: records, patients, sites, splits, augmentation."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lit_dist.checkpoints.run_folder import SPLITS
from lit_dist.datamodules.site_records import SiteRecords
from lit_dist.report.described import described, name_of, value_of
from lit_dist.report.looks import in_order
from lit_dist.report.tables import Tables
from lit_dist.runs.lightning_cli import own_parts
from lit_dist.study.run import Run
from lit_dist.study.settings import StudySettings
from lit_dist.utils.signatures import parameters
from lit_dist.utils.text_table import read_text_table

_TOLD_APART = {
    *("augmentation", "batch_size", "cache", "centralized", "external", "num_workers", "only_site", "partition"),
    *("persistent_workers", "pin_memory", "root", "site_column", "sites", "split_seed", "splits", "test_fraction"),
    "val_fraction",
}
_MOST_SITES = 30


def data_methods(settings: StudySettings, runs: Sequence[Run], tables: Tables) -> str:
    """The paragraph about the data."""
    data: Any = own_parts(settings.data, {})[0]
    given = settings.data.get("init_args") or {}
    sentences = [f"The collection {settings.study.collection} was read by {described(settings.data, _TOLD_APART)}."]
    splits = _splits(runs, tables)
    if splits is None:
        most = tables.results["n"].max()
        sentences.append(f"{most} records were tested on; the others were not recorded.")
    else:
        sentences += _records(splits)
    if isinstance(data, SiteRecords):
        sentences.append(_drawn(data, given))
    if settings.study.leave_one_site_out:
        sentences.append("Each site was held out in turn, and its records were the test of models of the others.")
    elif getattr(data, "external", None):
        sentences.append(f"No model was trained at {value_of(data.external)}, whose records were all tested on.")
    augmentation = getattr(data, "augmentation", None)
    if augmentation is not None:
        sentences.append(f"Training images were augmented by {_made(augmentation)}.")
    elif hasattr(data, "augmentation"):
        sentences.append("Images were not augmented.")
    elif not isinstance(data, SiteRecords):
        sentences.append(f"Augmentation, if there was any, is the business of {name_of(settings.data['class_path'])}.")
    return " ".join(sentences)


def _splits(runs: Sequence[Run], tables: Tables) -> pd.DataFrame | None:
    """The table of who is where; None of a datamodule that leaves none."""
    for run in runs:
        path = tables.fit(run.name) / SPLITS
        if path.exists():
            return read_text_table(path)
    return None


def _records(splits: pd.DataFrame) -> list[str]:
    sites = in_order(splits["site"].unique())
    counts = splits["site"].value_counts()
    each = ", ".join(f"{site} {counts[site]}" for site in sites)
    where = f" ({each})" if len(sites) <= _MOST_SITES else ""
    patients = splits["patient"].nunique()
    of = f" of {patients} patients" if patients < len(splits) else ", each of another patient"
    parts = splits.groupby("split")
    told = [
        f"{len(parts.get_group(key))} for {name}"
        + (f" (of {parts.get_group(key)['patient'].nunique()} patients)" if patients < len(splits) else "")
        for key, name in (("train", "training"), ("val", "validation"), ("test", "the test"))
        if key in parts.groups
    ]
    return [f"It has {len(splits)} records{of}, at {len(sites)} sites{where}; {', '.join(told)}."]


def _drawn(data: SiteRecords, given: dict[str, Any]) -> str:
    """Who is where, and why."""
    if data.splits is not None:
        return f"Sites and splits were those of the file {value_of(str(data.splits))}."
    shares = f"{data.val_fraction:g} of each site's patients for validation and {data.test_fraction:g} for the test"
    drawn = f"{shares}, with the seed {data.split_seed}; all records of a patient were in one part"
    if given.get("site_column"):
        return f"The sites are those of the column {given['site_column']}. At random were drawn {drawn}."
    if data.all_sites and all(site.startswith("site-") for site in data.site_names):
        how = _made(data.partition)
        return f"The sites are simulated: patients were dealt out to them at random by {how}. Then were drawn {drawn}."
    return f"At random were drawn {drawn}."


def _made(thing: Any) -> str:
    """An object with all of its settings that it has kept."""
    kind = type(thing)
    names = [name for name in parameters(kind)[0] if hasattr(thing, name)]
    settings = {name: getattr(thing, name) for name in names}
    return described({"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": settings}, always=names)
