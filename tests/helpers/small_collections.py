"""The options with which a shipped configuration runs on a small collection of its kind, written once a process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from coloured_photographs import write as write_photographs
from contract import once
from fake_fundus import write_fundus
from fake_mammograms import write_mini_mias
from small_tables import write_ages, write_hearts

WRITERS: dict[str, Callable[[Path], Path]] = {
    "fundus": partial(write_fundus, patients=80),
    "imagenet": partial(write_photographs, layout="no val", train=40),
    "mammography": write_mini_mias,
    "abide": write_ages,
    "heart": write_hearts,
}
TABLES = ("abide", "heart")
"""Collections of tables, whose networks are small as they are."""


def slim(collection: str, width: int = 8) -> list[str]:
    """The options of a small network for it."""
    if collection in TABLES:
        return []
    return ["--model.backbone=slim_resnet18", f"--model.backbone_kwargs={{width: {width}}}"]


def small_data(collection: str) -> list[str]:
    if collection in TABLES:
        return [f"--data.root={once(WRITERS[collection])}"]
    words = ["--data.size=32", "--data.num_workers=0"]
    if collection == "phantom":
        return [*words, "--data.patients=40"]
    root = once(WRITERS[collection])
    words += ["--data.radius=30"] if collection == "fundus" else []
    return [*words, f"--data.root={root}", f"--data.cache_dir={root.parent / 'prepared'}"]
