"""A small version of ``kills.py``: runs that are killed and gone on with equal runs that were not."""

import random
from pathlib import Path

import pytest

import kills
from real_data import DATA


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the variants share, so that the photographs are prepared once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("variant", "count"), [("steps", 1), ("swt", 1)])
def test_interrupted_equals_unbroken(
    variant: str, count: int, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(prepared))
    photographs = DATA / "fundus_eyepacs_400"
    there = photographs if photographs.exists() else None
    outcomes = list(kills.trial(variant, count, tmp_path / variant, there, random.Random(5), each=count))
    assert sum(outcome.kills for outcome in outcomes) >= count
