"""Batch normalisation's statistics: estimated anew from some batches, and put into a network for as long as needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Statistics = list[Tensor]
"""The running means, variances and counts of a module's layers, in their order."""


def norms_of(module: nn.Module) -> list[nn.Module]:
    """The layers of a module that normalise by running statistics in evaluation: batch normalisation, of any kind."""
    return [
        each
        for each in module.modules()
        if getattr(each, "running_mean", None) is not None
        and all(hasattr(each, name) for name in ("reset_running_stats", "momentum"))  # not one of fixed statistics
        and not isinstance(each, torch.jit.ScriptModule)
    ]


def norm_tensors(module: nn.Module, affine: bool) -> dict[str, Tensor]:
    """The running statistics of a module's batch normalisation, by name; with ``affine`` its weights and biases."""
    running = {id(each) for each in norms_of(module)}
    found: dict[str, Tensor] = {}
    for place, layer in module.named_modules():
        begin = f"{place}." if place else ""
        if id(layer) in running:
            found |= {begin + name: each for name, each in layer.named_buffers(recurse=False)}
        if affine and (id(layer) in running or isinstance(layer, nn.modules.batchnorm._BatchNorm)):
            found |= {begin + name: each for name, each in layer.named_parameters(recurse=False)}
    return found


@contextmanager
def exchanged(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the tensors of a module be others in the block: what they point to is exchanged, and nothing is copied."""
    before = {name: each.data for name, each in tensors.items() if name in values}
    try:
        for name in before:
            tensors[name].data = values[name].to(before[name])
        yield
    finally:
        for name, each in before.items():
            tensors[name].data = each


def _buffers(norms: Iterable[nn.Module]) -> Statistics:
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


@contextmanager
def kept(norms: list[nn.Module]) -> Iterator[None]:
    """Put the statistics back after the block, bit for bit."""
    buffers = _buffers(norms)
    before = [each.clone() for each in buffers]
    try:
        yield
    finally:
        _copy(before, buffers)


@contextmanager
def in_place(norms: list[nn.Module], statistics: Statistics) -> Iterator[None]:
    """Let layers have other statistics in the block."""
    with kept(norms):
        _copy(statistics, _buffers(norms))
        yield


def _copy(values: Statistics, buffers: Statistics) -> None:
    with torch.no_grad():
        for buffer, value in zip(buffers, values, strict=True):
            buffer.copy_(value)


def estimate(norms: list[nn.Module], forward: Callable[[Any], Any], batches: Iterable[Any]) -> Statistics:
    """Estimate the statistics of layers: the means of those of the batches, each normalised by its own.

    Everything else of the network stays in the mode that it is in, and the layers' own statistics are left as they are.
    Source: Li et al., "Revisiting batch normalization for practical domain adaptation", https://arxiv.org/abs/1603.04779.

    Args:
        norms: The layers, of any module.
        forward: Passes a batch through the network.
        batches: The batches, of two values a channel at least.

    Returns:
        The statistics, in the order of the layers.
    """
    settings = [(norm, norm.training, norm.momentum) for norm in norms]
    with kept(norms), torch.no_grad():
        try:
            for norm in norms:
                norm.reset_running_stats()  # type: ignore[operator]
                norm.training, norm.momentum = True, None  # type: ignore[assignment]  # None: the mean of all batches
            for batch in batches:
                forward(batch)
        finally:
            for norm, training, momentum in settings:
                norm.training, norm.momentum = training, momentum
        return [each.clone() for each in _buffers(norms)]
