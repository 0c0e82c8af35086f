import functools
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from lit_dist.visits.seeding import (
    ModuleGenerators,
    derive,
    find_generators,
    pass_seed,
    run_seed,
    sample_seeds,
    seed_generators,
    seed_torch,
    step_seed,
    uniforms,
)


@pytest.mark.slow
def test_seeds_are_the_same_in_another_process() -> None:
    code = "from lit_dist.visits.seeding import derive; print(derive(3, 'pass', 5))"
    environment = {"PYTHONHASHSEED": "7", "PATH": ""}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(other.stdout) == derive(3, "pass", 5)


def test_seeds_differ_for_every_purpose_and_number() -> None:
    seeds = [pass_seed(seed, visit, number) for seed in range(5) for visit in range(50) for number in range(5)]
    seeds += [step_seed(seeds[0], step, rank) for step in range(500) for rank in range(4)]
    assert all(0 <= seed < 2**62 for seed in seeds)
    for pass_ in seeds[:3]:
        seeds += sample_seeds(pass_, np.arange(5000)).tolist()
    assert len(set(seeds)) == len(seeds)


def test_the_runs_seed_is_that_of_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_seed() == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    assert run_seed() == 17
    assert run_seed(3) == 3


def test_seed_torch_equals_manual_seed() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    seed_torch(5, torch.device("cpu"))
    assert torch.equal(torch.rand(4), expected)


def test_every_kind_of_generator_is_found_and_seeded() -> None:
    class Holder:
        def __init__(self) -> None:
            self.transforms = [torch.Generator(), {"R": np.random.RandomState()}, (random.Random(), [np.random.PCG64])]
            self.records, self.itself = list(range(5000)), self
            self.own = np.random.default_rng()

    def draws(seed: int) -> list[float]:
        holder = Holder()
        found = find_generators(holder)
        seed_generators(seed, found)
        kinds = {
            torch.Generator: lambda one: float(torch.rand((), generator=one)),
            np.random.RandomState: lambda one: float(one.rand()),
        }
        own = [kinds.get(type(one), lambda one: float(one.random()))(one) for one in found]
        return [*own, float(torch.rand(())), random.random(), float(np.random.rand())]

    assert len(draws(3)) == 7
    assert draws(3) == draws(3)
    assert not set(draws(3)) & set(draws(4))


def test_generators_are_found_wherever_an_object_may_hold_one() -> None:
    class Slots:
        __slots__ = ("own", "unset")

        def __init__(self) -> None:
            self.own = np.random.MT19937()

    class Methods:
        def __init__(self) -> None:
            self.own = random.Random()

        def draw(self) -> float:
            return self.own.random()

    enclosed = torch.Generator()
    holders = [Slots(), functools.partial(round, random.Random()), lambda: enclosed, Methods().draw]
    assert [len(find_generators([holder])) for holder in holders] == [1, 1, 1, 1]


def test_a_generator_has_the_name_of_the_part_that_holds_it_though_a_hook_reaches_it_too() -> None:
    module, inner = torch.nn.Module(), torch.nn.Module()
    inner.own, module.inner = [random.Random()], inner
    module.hook = lambda: (module, inner)
    module.other = functools.partial(round, torch.Generator())
    generators = ModuleGenerators(module)
    generators.look()
    assert [*generators.found] == [".other.0", "inner.own.0"]


def test_uniforms_are_those_of_the_published_generator() -> None:
    def splitmix64(seed: int, count: int) -> list[float]:
        numbers, mask = [], 2**64 - 1
        for _ in range(count):
            seed = (seed + 0x9E3779B97F4A7C15) & mask
            bits = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
            bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
            numbers.append(((bits ^ (bits >> 31)) >> 11) / 2**53)
        return numbers

    seeds = [0, 1, 1234567, 2**62 - 1]
    found = uniforms(np.array(seeds, np.uint64), 5)
    assert found.tolist() == [splitmix64(seed, 5) for seed in seeds]
    # The first output for seed 1234567 in the reference implementation (https://prng.di.unimi.it/splitmix64.c).
    assert int(found[2, 0] * 2**53) == 6457827717110365317 >> 11


def test_uniforms_are_spread_evenly_and_do_not_depend_on_each_other() -> None:
    found = uniforms(sample_seeds(7, np.arange(4000)), 6)
    assert (np.abs(np.histogram(found, bins=10, range=(0, 1))[0] / found.size - 0.1) < 0.01).all()
    assert (np.abs(np.corrcoef(found.T) - np.eye(6)) < 0.06).all()
