"""What checkpoints without pickle cost: writing, reading, and hashing beside training.

    python benchmarks/checkpoint_io.py --repeats 7

Each file is synced and renamed, by all ways of writing. Writing and reading are timed in turns; the medians of the
ratios to ``torch.save`` and ``torch.load`` are shown, with the least and the most.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch.nn.functional import cross_entropy

import harness
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.checkpoint_io import SafetensorsCheckpointIO

Checkpoint = dict[str, Any]


def torch_save(checkpoint: Checkpoint, path: Path) -> None:
    """What a careful user writes."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def torch_load(path: Path) -> Checkpoint:
    """The same for reading."""
    checkpoint: Checkpoint = torch.load(path, weights_only=True)
    return checkpoint


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """How long a call takes."""
    gc.collect()
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def compare(name: str, repeats: int, folder: Path) -> None:
    """Write and read one network's weights with Adam's state, as it stands after a step."""
    network: torch.nn.Module = torchvision.models.get_model(name)
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    checkpoint = {"state_dict": network.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    ours, lightnings = SafetensorsCheckpointIO(), TorchCheckpointIO()
    ways: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
        "torch": (torch_save, torch_load),
        "Lightning": (lightnings.save_checkpoint, lightnings.load_checkpoint),
        "lit_dist": (ours.save_checkpoint, ours.load_checkpoint),
    }
    ratios: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        times = {way: seconds(write, checkpoint, folder / way) for way, (write, _) in ways.items()}
        reads = {way: seconds(read, folder / way) for way, (_, read) in ways.items()}
        for what, measured in (("write", times), ("read", reads)):
            for way in ("Lightning", "lit_dist"):
                ratios.setdefault((what, way), []).append(measured[way] / measured["torch"])
    size = (folder / "lit_dist").stat().st_size
    for (what, way), values in ratios.items():
        print(f"{name}, {size / 1e6:.0f} MB: {what}, {way} / torch: {harness.spread(values)}", flush=True)


def hashing(repeats: int) -> None:
    """The two hashes of a visit, beside its 30 steps."""
    network: torch.nn.Module = torchvision.models.resnet34(num_classes=2)
    optimizer = torch.optim.Adam(network.parameters())
    images, labels = torch.randn(32, 3, 224, 224), torch.randint(2, (32,))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()

    step()
    shares = [2 * seconds(fingerprint, network.state_dict()) / (30 * seconds(step)) for _ in range(repeats)]
    print(f"ResNet-34 at 224 px: two hashes / 30 steps of 32 images: {statistics.median(shares):.3%}"
          f" (at most {max(shares):.3%})")  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--networks", nargs="*", default=["resnet34", "vit_l_16"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            compare(name, options.repeats, Path(folder))
    hashing(options.repeats)


if __name__ == "__main__":
    main()
