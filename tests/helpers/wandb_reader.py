"""Reads what an offline W&B run has written, record by record.

The file is a log as LevelDB writes it: blocks of 32 KiB, in which each piece of a record has a header of a checksum, a
length and a type (whole, first, middle, last). https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER, _FILE_HEADER = 32768, 7, 7
_WHOLE, _LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, record = _FILE_HEADER, b""
    while position + _HEADER <= len(data):
        if _BLOCK - position % _BLOCK < _HEADER:  # too little is left of the block for a header
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        record += data[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if kind in (_WHOLE, _LAST):
            message = wandb_internal_pb2.Record()
            message.ParseFromString(record)
            yield message
            record = b""


def history(path: Path) -> list[dict[str, Any]]:
    """The rows that a run has logged."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]


def config(path: Path) -> dict[str, Any]:
    """The configuration that a run has logged."""
    values: dict[str, Any] = {}
    for record in records(path):
        for update in (record.config, record.run.config):
            values |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in update.update}
    return values


def summary(path: Path) -> dict[str, Any]:
    """The summary that a run has ended with."""
    values: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            values |= {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
    return values


def artifacts(path: Path) -> dict[str, dict[str, str]]:
    """The artefacts of a run: for each type the files, with the digest of each."""
    found: dict[str, dict[str, str]] = {}
    for record in records(path):
        for artifact in (record.artifact, record.request.log_artifact.artifact):
            if artifact.type:
                files = {item.path: item.digest for item in artifact.manifest.contents}
                found.setdefault(artifact.type, {}).update(files)
    return found
