"""A small version of ``kills.py``: runs that are killed and resumed equal runs that were not."""

import random
from pathlib import Path

import pytest

import kills


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_interrupted_equals_unbroken(tmp_path: Path) -> None:
    [outcome] = kills.trial("steps", 2, tmp_path / "steps", None, random.Random(5))
    assert outcome.kills == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pooled_run_without_a_transfer_too(tmp_path: Path) -> None:
    [outcome] = kills.trial("central", 1, tmp_path / "central", None, random.Random(3))
    assert outcome.kills == 1
