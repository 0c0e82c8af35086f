"""What all tests share: no tracking service, a cache of their own, and small data."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

DATA = Path(os.environ.get("LIT_DIST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each test has its own folder, cache and seed, and one thread, since the machine may be busy."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def eyepacs() -> Path:
    """Real fundus photographs, where there are any."""
    root = DATA / "fundus_eyepacs_400"
    if not root.is_dir():
        pytest.skip(f"there are no photographs at {root}; set LIT_DIST_DATA to the folder that holds them")
    return root


@pytest.fixture
def eyepacs_originals() -> Path:
    """Fundus photographs of the camera's own size, where there are any."""
    root = DATA / "fundus_eyepacs_original_sample"
    if not root.is_dir():
        pytest.skip(f"there are no photographs at {root}; set LIT_DIST_DATA to the folder that holds them")
    return root
