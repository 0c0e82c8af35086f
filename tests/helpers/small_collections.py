"""The options with which a shipped configuration runs on a small collection of its kind, written once a process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from coloured_photographs import write as write_photographs
from contract import once
from fake_fundus import write_fundus
from fake_mammograms import write_mini_mias
from fake_odir import write_odir
from small_encoder import ARCHITECTURE, write_weights
from small_tables import write_ages, write_hearts

WRITERS: dict[str, Callable[[Path], Path]] = {
    "fundus": partial(write_fundus, patients=80),
    "imagenet": partial(write_photographs, layout="no val", train=40),
    "mammography": write_mini_mias,
    "abide": write_ages,
    "heart": write_hearts,
    "odir": write_odir,
    "compare_density": write_mini_mias,
    "compare_referable": partial(write_fundus, patients=80),
}
FROZEN = ("odir", "compare_density", "compare_referable")
"""Collections, and studies, of images that are encoded."""
VECTORS = ("abide", "heart", *FROZEN)
"""Collections of tables and of encoded images, whose networks are small as they are."""


def kind(config: Path) -> str:
    """Of what collection a shipped configuration is; of encoded images, the study's name says it."""
    return config.stem if config.parent.name == "frozen_features" else config.parent.name


def slim(collection: str, width: int = 8) -> list[str]:
    """The options of a small network for it."""
    if collection in VECTORS:
        return []
    return ["--model.backbone=slim_resnet18", f"--model.backbone_kwargs={{width: {width}}}"]


def small_data(collection: str) -> list[str]:
    if collection in FROZEN:
        root, weights = once(WRITERS[collection]), once(write_weights) / "weights.safetensors"
        images = [f"root={root}", f"cache_dir={root.parent / 'prepared'}", "size=32"]
        words = [f"--data.images.{each}" for each in images]
        return [*words, f"--data.weights={weights}", f"--data.architecture={ARCHITECTURE}"]
    if collection in VECTORS:
        return [f"--data.root={once(WRITERS[collection])}"]
    words = ["--data.size=32", "--data.num_workers=0"]
    if collection == "phantom":
        return [*words, "--data.patients=40"]
    root = once(WRITERS[collection])
    words += ["--data.radius=30"] if collection == "fundus" else []
    return [*words, f"--data.root={root}", f"--data.cache_dir={root.parent / 'prepared'}"]
