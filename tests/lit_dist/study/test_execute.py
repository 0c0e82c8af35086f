from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_dist import InputError
from lit_dist.study.execute import FIT_SETTINGS, execute
from lit_dist.study.plan import Run, run_path


def test_a_run_takes_one_device_of_all_that_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(words: list[str]) -> Any:
        raise InputError("far enough")

    monkeypatch.setattr("lit_dist.study.execute.fit", fit)
    Run("central", "central", 0, 1, {"trainer": {"accelerator": "auto", "callbacks": []}}).write(tmp_path)
    with pytest.raises(InputError, match="far enough"):
        execute(tmp_path, "central")
    settings = yaml.safe_load((run_path(tmp_path, "central") / FIT_SETTINGS).read_text())
    assert settings["trainer"]["devices"] == 1
