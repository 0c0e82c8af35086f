"""The work that all peers do: four sites, twelve visits of thirteen steps; the same images, batches and weights."""

import hashlib
import json
import os

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lit_dist.models.slim_resnet import slim_resnet18

SITES = 4
CYCLES = 3
IMAGES = int(os.environ.get("LIT_DIST_IMAGES", "416"))  # a site
BATCH_SIZE = 32
SIZE = 64
CLASSES = 10
Loader = DataLoader[tuple[Tensor, ...]]


def make_model() -> nn.Module:
    """The network, 2.8 million parameters, with the same weights every time."""
    torch.manual_seed(0)
    return slim_resnet18(CLASSES)


def make_loader(site: int) -> Loader:
    """A site's images, which come in the same order every time."""
    generator = torch.Generator().manual_seed(site)
    images = torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(CLASSES, (IMAGES,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=BATCH_SIZE)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer; each visit begins with a new one, or with one whose state is empty."""
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def make_visit(model: nn.Module, loader: Loader) -> None:
    """Train for one pass over a site's images."""
    optimizer = make_optimizer(model)
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()


def report(model: nn.Module, seconds: float) -> None:
    """Print what the harness reads: the weights' hash, and the seconds of training."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    print(json.dumps({"sha256": digest.hexdigest(), "fit": seconds}))
