"""Files that run a program when they are unpickled."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RAN = Path("payload-ran")
"""The file that tells that a payload was run."""


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (RAN,)


PICKLES: dict[str, Callable[[Any, Path], object]] = {
    "pickle": lambda value, path: path.write_bytes(pickle.dumps(value)),
    "zip": torch.save,
    "text": lambda value, path: path.write_bytes(pickle.dumps(value, protocol=0)),
    "legacy": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
}
"""How to write a pickle."""
