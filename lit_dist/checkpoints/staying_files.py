"""What stays at a site between its visits: a file a site, beside the checkpoints, each of which names those it needs.

So a checkpoint is as large, and takes as long to write, with many sites as with few. A file is named by the SHA-256 in
it, so that a newer state of a site takes no older checkpoint's away.
"""

import os
import re
from collections.abc import Mapping, Set
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from lit_dist.checkpoints import state_tree, tensor_file
from lit_dist.utils.atomic_write import PARTIAL, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import FileBacked, parts_of
from lit_dist.utils.held_signals import held_signals

FOLDER = "staying"
"""The folder's name, beside the checkpoints."""

_NAME = re.compile(r"[0-9a-f]{64}\.state")


def put_away(checkpoint: Mapping[str, Any], folder: Path) -> set[str]:
    """Write each part of a checkpoint that may lie in a file into one of a folder, unless it is there.

    Returns:
        The names of the files.

    Raises:
        InputError: If that fails.
    """
    names = set()
    for part in parts_of(checkpoint):
        path = part.path
        if path is None or path.parent != folder:
            part.move_to(path := _write(part.get(), folder), read)
        names.add(path.name)
    return names


def _write(value: Any, folder: Path) -> Path:
    sha256 = ""
    with held_signals():
        text, tensors = state_tree.encode({"state": value})
        with replacing(folder / "state", lambda: f"{sha256}.state") as file:
            sha256 = tensor_file.write_to(file, tensors, text)
    return folder / f"{sha256}.state"


def read(path: Path) -> Any:
    """Read what such a file has.

    Raises:
        InputError: If it is damaged, or another than its name says.
    """
    tensors, text, sha256 = tensor_file.read_hashed(path)
    try:
        state = state_tree.decode(text, tensors)["state"]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged: its text and its tensors do not belong together ({error})") from None
    if f"{sha256}.state" != path.name:
        raise InputError(f"{path} has another content than the one that its name stands for; put back a copy of it")
    return state


def find(name: str, checkpoint: Path) -> FileBacked:
    """The part that a checkpoint names, which may be missing.

    Raises:
        ValueError: If that is not the name of such a file.
    """
    if type(name) is not str or not _NAME.fullmatch(name):
        raise ValueError("a file has a name that no such file has")
    return FileBacked.at(folder_in(checkpoint.resolve().parent) / name, read)


def folder_in(checkpoints: Path) -> Path:
    """The folder for what the checkpoints in a folder name."""
    return checkpoints.resolve() / FOLDER


def delete_unnamed(checkpoints: Path, needed: Set[str]) -> None:
    """Delete what none of a folder's checkpoints names and the fit does not need, and what is left of one file."""
    folder = folder_in(checkpoints)
    if not folder.is_dir():
        return
    named = set(needed)
    for path in folder.parent.glob("*.ckpt"):
        with suppress(FileNotFoundError):  # a link to nowhere
            status = path.stat()
            named |= _named_in(path, status.st_ino, status.st_mtime_ns, status.st_size)
    for name in os.listdir(folder):
        if name not in named and (_NAME.fullmatch(name) or name.endswith(PARTIAL)):
            (folder / name).unlink(missing_ok=True)


@lru_cache(maxsize=256)
def _named_in(checkpoint: Path, *version: int) -> frozenset[str]:
    """The names in a checkpoint; one that cannot be read has none, and cannot be resumed from."""
    try:
        return frozenset(_NAME.findall(tensor_file.header_of(checkpoint)))
    except (InputError, OSError):
        return frozenset()
