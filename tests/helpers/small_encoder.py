"""Weights of a network, chosen by chance, and a small collection of photographs that it encodes."""

from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from contract import once
from fake_fundus import write_fundus
from lit_dist.datamodules import FrozenEncoder, FundusDataModule
from lit_dist.models.backbones import build_backbone

ARCHITECTURE = "squeezenet1_1"


@cache
def weights() -> dict[str, Tensor]:
    """They may be shared: nothing changes them in place."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(ARCHITECTURE, 1000).state_dict()


def write_weights(folder: Path) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    safetensors.torch.save_file(weights(), folder / "weights.safetensors")
    return folder


def photographs(**settings: Any) -> FundusDataModule:
    root = once(write_fundus)
    return FundusDataModule(**{"root": root, "radius": 30, "size": 32, "cache_dir": root.parent / "cache", **settings})


def encoder(images: Any = None, **settings: Any) -> FrozenEncoder:
    given: dict[str, Any] = {"architecture": ARCHITECTURE, "weights": once(write_weights) / "weights.safetensors"}
    return FrozenEncoder(photographs() if images is None else images, **{**given, **settings})
