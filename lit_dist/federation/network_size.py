"""How large the network of a run's settings is, known before it takes memory."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules import module as registration

from lit_dist.federation.refusal import Refusal

_log = logging.getLogger(__name__)

_LAYERS = 20_000  # several times those of torchvision's largest network

T = TypeVar("T")


def make_limited(make: Callable[[], T], most: int) -> T:
    """Make a network whose parameters and buffers have no more than so many values.

    It is made twice: first without memory for its weights, which some networks cannot do; then in earnest. One that has
    more, or more layers than any network in use, is a ``Refusal``.
    """
    try:
        with _limits(most), torch.device("meta"):
            make()
    except Refusal:
        raise
    except Exception as error:  # of any kind: the network reads values, of which there are none yet
        _log.debug("the run's network cannot be made without memory: %s", error)
    with _limits(most):
        return make()


@contextmanager
def _limits(most: int) -> Iterator[None]:
    """Count what modules register, and refuse what is too much."""
    values = layers = 0
    refusal: Refusal | None = None

    def refuse(why: str) -> None:
        nonlocal refusal
        refusal = Refusal(why)
        raise refusal

    def count_values(module: nn.Module, name: str, tensor: Any) -> None:
        nonlocal values
        values += tensor.numel() if isinstance(tensor, torch.Tensor) else 0
        if values > most:
            refuse(f"its site.yaml allows max_parameters: {most}, and the run's network has more")

    def count_layers(module: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal layers
        layers += 1
        if layers > _LAYERS:
            refuse(f"the run's network has more than {_LAYERS} layers")

    hooks = [
        registration.register_module_parameter_registration_hook(count_values),
        registration.register_module_buffer_registration_hook(count_values),
        registration.register_module_module_registration_hook(count_layers),
    ]
    try:
        yield
    except Exception:
        if refusal is not None:  # which who makes the network may have taken for an error of its own
            raise refusal from None
        raise
    finally:
        for hook in hooks:
            hook.remove()
