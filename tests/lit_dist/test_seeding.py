import subprocess
import sys

import pytest
import torch

from lit_dist.seeding import derive, pass_seed, run_seed, sample_seed, seed_torch, seeded, step_seed


def test_seeds_are_the_same_in_another_process() -> None:
    code = "from lit_dist.seeding import derive; print(derive(3, 'pass', 5))"
    environment = {"PYTHONHASHSEED": "7", "PATH": ""}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(other.stdout) == derive(3, "pass", 5)


def test_seeds_differ_for_every_purpose_and_number() -> None:
    seeds = [pass_seed(seed, visit, number) for seed in range(5) for visit in range(50) for number in range(5)]
    seeds += [sample_seed(seeds[0], index) for index in range(5000)]
    seeds += [step_seed(seeds[0], step, rank) for step in range(500) for rank in range(4)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**62 for seed in seeds)


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


def test_seeded_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with seeded(9):
        torch.rand(100)
    assert torch.equal(torch.rand(2), expected)
