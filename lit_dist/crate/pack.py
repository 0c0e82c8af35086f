"""A study as an RO-Crate: one folder or file for others, who check it by ``lit-dist verify``.

Source: Soiland-Reyes et al., "Packaging research artefacts with RO-Crate", Data Science 2022,
https://doi.org/10.3233/DS-210053; the profile is Process Run Crate, https://w3id.org/ro/wfrun/process.
"""

import json
import mimetypes
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lit_dist.checkpoints.run_folder import LEDGER, SIGNATURE, SPLITS
from lit_dist.crate.check import check_crate
from lit_dist.provenance.run_settings import versions
from lit_dist.study.continued import OF_STUDY, REPORT, TASK
from lit_dist.study.environment import ENVIRONMENT
from lit_dist.study.execute import FIT, PREDICTIONS, RESULT, VALIDATION
from lit_dist.study.run import PLAN
from lit_dist.study.settings import SETTINGS
from lit_dist.utils.atomic_write import check_folder, check_kind, file_sha256, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.extras import need

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_OF_FIT = (LEDGER, SIGNATURE, PREDICTIONS, VALIDATION, SPLITS, "metrics.csv", "site_matrix.csv")
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
    if output.exists():
        raise InputError(f"{output} is there already: give another --output, or delete it")
    check_folder(output.parent)
    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=".crate-") as folder:
        crate = Path(folder) / output.stem
        _copy(study, crate)
        _describe(crate, name, author, licence)
        try:
            deque(check_crate(crate), maxlen=0)  # a whole one, or none
        except InputError as error:
            raise InputError(f"the study is not whole: {error}".replace(str(crate), str(study))) from None
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
    """The files of a study that are packed, those that lit_dist has written: no images, weights, checkpoints or logs.

    Raises:
        InputError: If one of them is no file of the study itself, such as a link to another place.
    """
    for path in _candidates(study):
        inner = path.relative_to(study)
        if any((study / each).is_symlink() for each in [inner, *inner.parents][:-1]):
            raise InputError(
                f"{path} is a link, or lies behind one: a crate has only what is in the study's own folder"
            )
        check_kind(path)
        if path.is_file():
            yield path


def _candidates(study: Path) -> Iterator[Path]:
    yield from (study / name for name in OF_STUDY if name != "lock")
    yield from (path for path in sorted((study / "figures").glob("[!.]*")) if path.suffix in (".png", ".svg", ".pdf"))
    yield from sorted((study / "tables").glob("[!.]*.tex"))
    for name in _table(study / "results.csv").get("run", pd.Series(dtype=str)):
        run = study / "runs" / Path(name).name
        yield from (run / each for each in (PLAN, RESULT, ENVIRONMENT))
        yield from (run / FIT / each for each in _OF_FIT)


def _named_table(path: Path) -> pd.DataFrame | None:
    """A table of records; None of a file without their names."""
    if path.suffix != ".csv":
        return None
    table = _table(path)
    return table if set(_NAMED) & set(table) else None


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None


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


def shows_images(study: Path) -> bool:
    """Whether the report of a study has images of records in it."""
    report = study / REPORT
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
