"""What an ensemble's inference costs: members one after the other, or stacked with ``torch.func``.

    python benchmarks/ensemble.py --repeats 15

Both give the mean of the members' probabilities; that they agree is checked first. They are timed in turns, on one
thread. Stacking the weights, which is done once, is not counted. The medians of the ratios are shown, with the least
and the most.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lit_dist.backbone import build_backbone
from lit_dist.ensemble import SiteEnsemble

Predict = Callable[[Tensor], Tensor]


def stacked(members: list[nn.Module]) -> Predict:
    """One call for all members, whose weights are stacked along a new first dimension."""
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")

    def one(weights: Any, state: Any, images: Tensor) -> Tensor:
        logits: Tensor = functional_call(skeleton, (weights, state), (images,))
        return logits.softmax(dim=1)

    every = vmap(one, in_dims=(0, 0, None))

    def predict(images: Tensor) -> Tensor:
        probabilities: Tensor = every(parameters, buffers, images)
        return probabilities.mean(dim=0)

    return predict


def seconds(predict: Predict, images: Tensor, calls: int) -> float:
    """How long some calls take."""
    began = time.perf_counter()
    for _ in range(calls):
        predict(images)
    return time.perf_counter() - began


def compare(name: str, options: argparse.Namespace) -> None:
    """Time both ways with one network."""
    members = [build_backbone(name, 2).eval() for _ in range(options.members)]
    images = torch.randn(options.batch_size, 3, options.size, options.size)
    ways: dict[str, Predict] = {"loop": SiteEnsemble(members).eval(), "stacked": stacked(members)}
    torch.testing.assert_close(*(predict(images) for predict in ways.values()))  # the first calls warm up, too
    ratios, loops = [], []
    for _ in range(options.repeats):
        times = {way: seconds(predict, images, options.calls) for way, predict in ways.items()}
        ratios.append(times["stacked"] / times["loop"])
        loops.append(times["loop"] / options.calls)
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{name}, {options.members} members, {options.batch_size} images of {options.size} px: stacked / one after"
          f" the other {spread}; the latter takes {statistics.median(loops):.3f} s", flush=True)  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--calls", type=int, default=3, help="a repeat's calls of each way")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--networks", nargs="*", default=["resnet18", "slim_resnet18"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        for name in options.networks:
            compare(name, options)


if __name__ == "__main__":
    main()
