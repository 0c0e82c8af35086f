"""The programs in the recipes run as they stand, one after another."""

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import seed_everything

from pages import ROOT, code


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on loaders and loggers
def test_the_recipes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seed_everything(0, verbose=False)
    names: dict[str, Any] = {"__name__": "recipes"}
    exec("\n".join(code(ROOT / "docs" / "projects.md", "python")), names)
    assert names["trainer"].global_step == 24, "the GAN's"
    lines = [json.loads(line) for line in Path("ledger.jsonl").read_text().splitlines()]
    assert {line["site"] for line in lines} == {"mgh", "ucsf", "charite"}
