"""What all tests share: no tracking service, a cache of their own, and small data."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from real_data import real_folder


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each test has its own folder, cache and seed, and one thread, since the machine may be busy."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning itself calls it by an old name
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of a test before, whose service ends with that test's runs
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def eyepacs() -> Path:
    """Real fundus photographs of 400 by 400 pixels."""
    return real_folder("fundus_eyepacs_400")


@pytest.fixture
def eyepacs_originals() -> Path:
    """Real fundus photographs of the camera's own size."""
    return real_folder("fundus_eyepacs_original_sample")
