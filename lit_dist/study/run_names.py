"""What the runs of a study are called."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lit_dist.study.heuristics import Heuristic

NO_MATTER = ("num_workers", "persistent_workers", "pin_memory", "enable_progress_bar")
"""Settings that change nothing about a result."""


def run_name(heuristic: Heuristic, seed: int, settings: dict[str, Any], **named: Any) -> str:
    """Name a run, and so its folder: what it is, and the beginning of a hash of its settings.

    Args:
        heuristic: What it is one of. Of a name of the user's, the folder has letters and digits that any disk can hold.
        seed: Its seed.
        settings: All that decides its result.
        **named: What tells it from others of its heuristic.
    """
    if heuristic.name != heuristic.kind:
        settings = {**settings, "name": heuristic.name}  # of two names may be left the same letters
    short = _hash(settings)
    words = [_LENGTHS[name].format(value) if name in _LENGTHS else _word(str(value)) for name, value in named.items()]
    return "-".join([_folder_word(heuristic), *words, f"seed_{seed}", short])


def has_settings(name: str, kind: str, heuristic: str, config: Mapping[str, Any], members: Sequence[str]) -> bool:
    """Whether a run's name ends in the hash of its settings.

    Args:
        name: The name.
        kind: The kind of its heuristic.
        heuristic: The name of its heuristic.
        config: Its settings.
        members: Of an ensemble, the names of the runs of its members.
    """
    settings = dict(config)
    if members:
        settings["members"] = list(members)
    else:
        settings["seed"] = settings.pop("seed_everything", None)
    if kind != heuristic:
        settings["name"] = heuristic
    return name.rpartition("-")[2] == _hash(settings)


def _hash(settings: dict[str, Any]) -> str:
    text = json.dumps(_that_matters(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


_LENGTHS = {"every_n_epochs": "every_{:02d}", "every_n_steps": "every_{:02d}_steps"}


def _word(text: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in text)


def _folder_word(heuristic: Heuristic) -> str:
    """What a folder's name says of a heuristic; of a name of the user's, letters and digits that any disk can hold."""
    if heuristic.name == heuristic.kind:
        return heuristic.name
    return re.sub("[^a-z0-9]+", "_", heuristic.name.lower())[:40].strip("_") or "heuristic"


def _that_matters(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _that_matters(value) for name, value in tree.items() if name not in NO_MATTER}
    return [_that_matters(value) for value in tree] if isinstance(tree, list) else tree
