from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, FederatedAveraging
from lit_dist.study.execute import FIT_SETTINGS, execute, travels
from lit_dist.study.run import Run, run_path
from small import fit


def test_a_run_takes_one_device_of_all_that_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def far(words: list[str]) -> Any:
        raise InputError("far enough")

    monkeypatch.setattr("lit_dist.study.execute.fit", far)
    Run("central", "central", 0, 1, {"trainer": {"accelerator": "auto", "callbacks": []}}).write(tmp_path)
    with pytest.raises(InputError, match="far enough"):
        execute(tmp_path, "central")
    settings = yaml.safe_load((run_path(tmp_path, "central") / FIT_SETTINGS).read_text())
    assert settings["trainer"]["devices"] == 1


def test_weights_that_are_merged_travel_both_ways() -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1), max_epochs=6, default_root_dir="chain")
    fit(FederatedAveraging(every_n_epochs=1), max_epochs=6, default_root_dir="star")
    chain, star = (travels(Path(name) / "ledger.jsonl") for name in ("chain", "star"))
    assert (chain["visits"], chain["transfers"]) == (6, 5)
    assert (star["visits"], star["transfers"]) == (6, 12)
    assert star["bytes_sent"] / 12 == chain["bytes_sent"] / 5 > 0
