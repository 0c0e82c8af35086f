"""How the models of four sites are best trained, and their ensemble asked: one after another, or all at once.

All at once is stacked with ``torch.func``, or (training) in two processes.

Run it with ``python benchmarks/site_models.py --repeats 5``. All ways are checked to give the same losses and
probabilities.
"""

import argparse
import copy
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy

import harness
from harness import Facts, Way
from lit_dist.models.backbones import build_backbone
from lit_dist.models.ensemble import SiteEnsemble

SITES, STEPS, BATCH, SIZE, RATE = 4, 12, 32, 64, 0.01
NETWORKS = ["slim_resnet18", "resnet18"]
LOOP = "one after another"


def make_members(network: str) -> list[nn.Module]:
    """The models to begin with."""
    torch.manual_seed(0)
    return [build_backbone(network, 2) for _ in range(SITES)]


def make_batches(site: int) -> tuple[Tensor, Tensor]:
    """The batches of a site, (steps, batch, 3, size, size), and their labels."""
    generator = torch.Generator().manual_seed(site)
    return torch.randn(STEPS, BATCH, 3, SIZE, SIZE, generator=generator), torch.arange(STEPS * BATCH).view(
        STEPS, -1
    ) % 2


def train_one(member: nn.Module, site: int) -> float:
    """Train a site's model by stochastic gradient descent; the loss of the second step."""
    losses = []
    for images, labels in zip(*make_batches(site), strict=True):
        member.zero_grad()
        loss = cross_entropy(member(images), labels)
        loss.backward()
        with torch.no_grad():
            for parameter in member.parameters():
                if parameter.grad is not None:
                    parameter.sub_(RATE * parameter.grad)
        losses.append(float(loss))
    return losses[1]  # later ones differ as rounding does, which training amplifies


def train_in_turn(network: str) -> list[float]:
    """One after another."""
    return [train_one(member, site) for site, member in enumerate(make_members(network))]


def train_stacked(network: str) -> list[float]:
    """All at once: the weights are stacked along a new first dimension."""
    members = make_members(network)
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")
    parameters = {name: tensor.detach() for name, tensor in parameters.items()}

    def loss_of(weights: Any, state: Any, images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(functional_call(skeleton, (weights, state), (images,)), labels)

    step = vmap(grad_and_value(loss_of), in_dims=(0, 0, 0, 0))
    batches = [make_batches(site) for site in range(SITES)]
    losses: list[list[float]] = []
    for number in range(STEPS):
        images, labels = (torch.stack([each[part][number] for each in batches]) for part in (0, 1))
        gradients, loss = step(parameters, buffers, images, labels)
        parameters = {name: tensor - RATE * gradients[name] for name, tensor in parameters.items()}
        losses.append(loss.tolist())
    return losses[1]


def _train_site(network: str, site: int) -> float:
    return train_one(make_members(network)[site], site)


def train_in_processes(network: str) -> list[float]:
    """Two processes, each of which takes the next site when it has ended one."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.starmap(_train_site, [(network, site) for site in range(SITES)])


def predict_in_turn(network: str) -> list[float]:
    """``SiteEnsemble`` as it is."""
    ensemble = SiteEnsemble(make_members(network)).eval()
    return _probabilities(ensemble)


def predict_stacked(network: str) -> list[float]:
    """All members in one call."""
    members = [member.eval() for member in make_members(network)]
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")

    def one(weights: Any, state: Any, images: Tensor) -> Tensor:
        return functional_call(skeleton, (weights, state), (images,)).softmax(dim=1)  # type: ignore[no-any-return]

    every = vmap(one, in_dims=(0, 0, None))
    return _probabilities(lambda images: every(parameters, buffers, images).mean(dim=0))


def _probabilities(predict: Callable[[Tensor], Tensor]) -> list[float]:
    with torch.inference_mode():
        return torch.cat([predict(images)[:, 0] for images in make_batches(0)[0]]).tolist()


TRAINING: dict[str, Callable[[str], list[float]]] = {
    LOOP: train_in_turn,
    "stacked": train_stacked,
    "two processes": train_in_processes,
}
INFERENCE: dict[str, Callable[[str], list[float]]] = {LOOP: predict_in_turn, "stacked": predict_stacked}
WORKS = {"training": TRAINING, "inference": INFERENCE}


def run(work: str, way: str, network: str) -> Facts:
    """Do the work in this process."""
    start = time.perf_counter()
    values = WORKS[work][way](network)
    return {"seconds": time.perf_counter() - start, "values": values}


def main() -> None:
    """Run all in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        work, way, network = options.only
        print(json.dumps(run(work, way, network)))
        return
    before = harness.machine()
    rows = [["time / one after another", "training", "inference"]]
    found: dict[str, dict[str, list[Facts]]] = {}
    for network in NETWORKS:
        for work, ways in WORKS.items():
            words = [[sys.executable, __file__, "--only", work, way, network] for way in ways]
            runs = harness.in_turns([Way(*each) for each in zip(ways, words, strict=True)], options.repeats)
            values = [each.pop("values") for same in runs.values() for each in same]
            for each in values:
                torch.testing.assert_close(each, values[0], rtol=1e-2, atol=1e-3)
            found[f"{network}, {work}"] = runs
        for way in TRAINING:
            cells = [found[f"{network}, {work}"] for work in WORKS]
            shown = [
                harness.spread(harness.ratios(each, way, LOOP, "seconds")) if way in each else "" for each in cells
            ]
            rows.append([f"{network}, {way}", *shown])
    harness.write("site_models", found, rows, before)


if __name__ == "__main__":
    main()
