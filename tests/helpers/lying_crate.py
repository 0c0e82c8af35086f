"""What a liar does to a packed study: its files are changed, and all hashes are mended."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lit_dist.crate.files import METADATA
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import AnyLine, iter_lines
from lit_dist.provenance.line import FIRST
from lit_dist.study.execute import travels
from lit_dist.utils.atomic_write import file_sha256


def hashed(crate: Path) -> None:
    """Let the metadata have the hashes of what there is."""
    graph = json.loads((crate / METADATA).read_text())
    files = {path.relative_to(crate).as_posix(): path for path in crate.rglob("*") if path.is_file()}
    known = [each for each in graph["@graph"] if each["@type"] != "File" or each["@id"] in files]
    for each in known:
        if each["@type"] == "File":
            each["sha256"] = file_sha256(files[each["@id"]])
    new = files.keys() - {each["@id"] for each in known} - {METADATA}
    known += [{"@id": name, "@type": "File", "sha256": file_sha256(files[name])} for name in new]
    (crate / METADATA).write_text(json.dumps({**graph, "@graph": known}))


def edit(crate: Path, place: str, change: Callable[[str], str]) -> None:
    """Change the text of a file."""
    [path] = crate.glob(place)
    path.write_text(change(path.read_text()))


def replaced(place: str, old: str, new: str) -> Callable[[Path], None]:
    """A lie: other words in a file."""
    return lambda crate: edit(crate, place, lambda text: text.replace(old, new))


def edit_json(crate: Path, place: str, **values: Any) -> None:
    """Change values of a JSON file."""
    edit(crate, place, lambda text: json.dumps({**json.loads(text), **values}))


def with_json(place: str, **values: Any) -> Callable[[Path], None]:
    """A lie: other values in a JSON file."""
    return lambda crate: edit_json(crate, place, **values)


def edit_table(crate: Path, place: str, change: Callable[[pd.DataFrame], Any]) -> None:
    """Change tables; what changes one gives another, or nothing."""
    for path in crate.glob(place):
        table = pd.read_csv(path)
        changed = change(table)
        (table if changed is None else changed).to_csv(path, index=False)


def with_table(place: str, change: Callable[[pd.DataFrame], Any]) -> Callable[[Path], None]:
    """A lie: another table."""
    return lambda crate: edit_table(crate, place, change)


def set_cell(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], None]:
    """Change one value of a table."""

    def change(table: pd.DataFrame) -> None:
        table[column] = table[column].astype(object)
        table.loc[row, column] = value

    return change


def chained(crate: Path, place: str, change: Callable[[list[AnyLine]], list[AnyLine]]) -> None:
    """Change the lines of a ledger, and make a whole chain of them; what its run has sent follows."""
    [path] = crate.glob(place)
    head, text = FIRST, ""
    for line in change(list(iter_lines(path))):
        own = replace(line, previous=head)
        head, text = own.sha256, text + own.line + "\n"
    path.write_text(text)
    steps = sum(line.steps for line in visits(list(iter_lines(path))))
    edit_json(path.parents[1], "result.json", **travels(path), steps=steps)


def with_lines(place: str, change: Callable[[list[AnyLine]], list[AnyLine]]) -> Callable[[Path], None]:
    """A lie: another ledger, whose chain is whole."""
    return lambda crate: chained(crate, place, change)


def with_entry(place: str, number: int, **values: Any) -> Callable[[Path], None]:
    """A lie: other values in one line of a ledger."""
    return with_lines(
        place, lambda lines: [replace(each, **values) if n == number else each for n, each in enumerate(lines)]
    )


def visits(lines: list[AnyLine]) -> list[Entry]:
    """The visits of a ledger."""
    return [line for line in lines if isinstance(line, Entry)]
