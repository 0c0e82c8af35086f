"""What all tests share: no tracking service, a cache of their own, and small data."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from real_data import real_folder

settings.register_profile("lit_dist", deadline=None)  # no test depends on how fast the machine is
settings.load_profile("lit_dist")


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """Of all tests, of fixtures that several share, and of their processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning itself calls it by an old name
        torch.set_num_threads(1)  # the machine may be busy; and the number of threads changes the last bits
        yield


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has its own folder, cache and seed, and one thread."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of a test before, whose service ends with that test's runs
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


@pytest.fixture
def eyepacs() -> Path:
    """Real fundus photographs of 400 by 400 pixels."""
    return real_folder("fundus_eyepacs_400")


@pytest.fixture
def eyepacs_originals() -> Path:
    """Real fundus photographs of the camera's own size."""
    return real_folder("fundus_eyepacs_original_sample")
