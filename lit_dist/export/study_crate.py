"""A study as an RO-Crate: one folder or file for others, who check it by ``lit-dist verify``.

Source: Soiland-Reyes et al., "Packaging research artefacts with RO-Crate", Data Science 2022,
https://doi.org/10.3233/DS-210053; the profile is Process Run Crate, https://w3id.org/ro/wfrun/process.
"""

import json
import mimetypes
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lit_dist.checkpoints.run_folder import LEDGER, SIGNATURE
from lit_dist.checkpoints.run_folder import SETTINGS as RUN_SETTINGS
from lit_dist.export.crate_files import METADATA
from lit_dist.provenance.run_settings import versions
from lit_dist.report.tables import TASK
from lit_dist.study.environment import ENVIRONMENT
from lit_dist.study.execute import FIT, RESULT
from lit_dist.study.plan import PLAN
from lit_dist.study.settings import SETTINGS
from lit_dist.utils.atomic_write import check_folder, check_kind, file_sha256, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.extras import need

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_OF_STUDY = {".yaml", ".json", ".csv", ".html", ".md", ".txt", ".tex"}
_NAMED = {"image": "record", "patient": "patient"}
"""Columns with the names of records and patients, and what they are called in a crate."""


def pack(study: Path, output: Path, name: str = "", author: str = "", licence: str = "") -> Path:
    """Pack a study: settings, plan, ledgers, predictions, tables, figures and report, with the hash of each file.

    Neither images nor weights are packed. The names of records and patients are replaced by numbers in their order,
    so that the tables follow from the predictions to the last digit.

    Args:
        study: The study's folder.
        output: A folder that is not there yet, or a file that ends in ``.zip``.
        name: The title; by default it says the collection.
        author: Who made the study.
        licence: The terms on which others may use the crate, such as an SPDX identifier or a URL.

    Returns:
        The crate.

    Raises:
        InputError: If the folder has no finished study, or the crate cannot be written.
        MissingExtraError: If the extra ``crate`` is not installed.
    """
    need("crate", "packing a study")
    if not (study / SETTINGS).is_file() or not (study / "results.csv").is_file():
        raise InputError(f"{study} has no finished study: lit-dist compare leaves {SETTINGS} and results.csv there")
    if not (study / TASK).is_file():
        raise InputError(
            f"{study} has no {TASK}, which lit-dist compare leaves: give its command again, it trains nothing anew"
        )
    if output.suffix == ".zip":
        check_kind(output)
    elif output.exists():
        raise InputError(f"{output} is there already: give another --output, or delete it")
    check_folder(output.parent)
    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=".crate-") as folder:
        crate = Path(folder) / output.stem
        _copy(study, crate)
        _describe(crate, name, author, licence)
        if output.suffix != ".zip":
            crate.rename(output)
            return output
        archive = shutil.make_archive(str(crate), "zip", folder, crate.name)
        with replacing(output) as file, open(archive, "rb") as made:
            shutil.copyfileobj(made, file)
    return output


def _copy(study: Path, crate: Path) -> None:
    """Copy what others need, with numbers in place of the names of records and patients."""
    files = {path.relative_to(study): path for path in _files(study)}
    tables = {place: table for place, path in files.items() if (table := _named_table(path)) is not None}
    numbers = {column: _numbered(tables, column, word) for column, word in _NAMED.items()}
    for place, path in files.items():
        target = crate / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if place in tables:
            table = tables[place]
            known = {column: table[column].map(names) for column, names in numbers.items() if column in table}
            table.assign(**known).to_csv(target, index=False)
        else:
            shutil.copyfile(path, target)


def _files(study: Path) -> Iterator[Path]:
    """The files of a study that are packed: no images, weights, checkpoints or logs."""
    yield from (path for path in study.iterdir() if path.suffix in _OF_STUDY)
    yield from (path for folder in ("figures", "tables") for path in (study / folder).glob("[!.]*") if path.is_file())
    for run in (study / "runs").iterdir():
        if (run / RESULT).is_file():
            yield from (path for name in (PLAN, RESULT, ENVIRONMENT) if (path := run / name).is_file())
            yield from (path for name in (RUN_SETTINGS, LEDGER, SIGNATURE) if (path := run / FIT / name).is_file())
            yield from (run / FIT).glob("[!.]*.csv")


def _named_table(path: Path) -> pd.DataFrame | None:
    """A table of records; None of a file without their names."""
    if path.suffix != ".csv":
        return None
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table if set(_NAMED) & set(table) else None


def _numbered(tables: Mapping[Path, pd.DataFrame], column: str, word: str) -> dict[str, str]:
    """A number for each name. Patients are numbered in the order in which a bootstrap draws them."""
    names = {name for table in tables.values() if column in table for name in table[column]}
    ordered = sorted(names, key=json.dumps if column == "patient" else str)
    width = len(str(len(ordered)))
    return {name: f"{word} {number:0{width}}" for number, name in enumerate(ordered, 1)}


def _describe(folder: Path, name: str, author: str, licence: str) -> None:
    """Write the metadata: what the crate is, the files with their hashes, and the programs that have made them."""
    from rocrate.model import ContextEntity, Person
    from rocrate.rocrate import ROCrate

    crate = ROCrate()
    crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"
    collection = pd.read_csv(folder / "results.csv")["collection"].iloc[0]
    crate.name = name or f"Comparison of heuristics: {collection}"
    crate.description = (
        "A study by lit_dist of how one network is trained among institutions: settings, plan, ledgers, predictions,"
        " tables and report. Records and patients are numbered; neither images nor weights are included"
        + (", but for those images of records that the report shows." if shows_images(folder) else ".")
    )
    crate.license = licence or "not stated by the authors"
    crate.root_dataset["conformsTo"] = crate.add(
        ContextEntity(crate, PROFILE, {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"})
    )
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    entities = {place: crate.add_file(path, place, properties=_properties(path)) for place, path in files.items()}
    known = versions()
    program = ContextEntity(crate, "#lit_dist", {"@type": "SoftwareApplication", "name": "lit_dist"})
    program["softwareVersion"] = known["lit_dist"]
    program["softwareRequirements"] = ", ".join(f"{name} {value}" for name, value in known.items() if name != "threads")
    crate.add(program)
    made = [entities[place] for place in files if "/" not in place and place not in (SETTINGS, TASK)]
    action = crate.add_action(program, "#compare", [entities[SETTINGS]], made, {"name": "lit-dist compare"})
    if author:
        person = crate.add(Person(crate, "#author", {"name": author}))
        crate.creator = action["agent"] = person
    crate.metadata.write(folder)
    assert (folder / METADATA).is_file()


def shows_images(study: Path) -> bool:
    """Whether the report of a study has images of records in it."""
    report = study / "report.html"
    return report.is_file() and b'<div class="cases">' in report.read_bytes()


def _properties(path: Path) -> dict[str, Any]:
    kind = {".yaml": "application/yaml", ".jsonl": "application/jsonl"}.get(path.suffix) or mimetypes.guess_type(path)[
        0
    ]
    return {
        "name": path.name,
        "sha256": file_sha256(path),
        "contentSize": str(path.stat().st_size),
        "encodingFormat": kind or "application/octet-stream",
    }
