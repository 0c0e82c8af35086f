"""The account of visits over several fits, interruptions and resumed runs."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from small import SmallData, SmallModule, fit, ledger, trainer

CYCLE = "aaaabbbbbbcc"


def fitted_twice(transfer: CyclicalWeightTransfer, first: int) -> SmallModule:
    """The module of a trainer that fits so many epochs, and four at the end."""
    module, data, run = SmallModule(), SmallData(), trainer(transfer, max_epochs=first)
    run.fit(module, data)
    run.fit_loop.max_epochs = 4
    run.fit(module, data)
    return module


def test_a_second_fit_continues_with_the_next_visits() -> None:
    assert fitted_twice(CyclicalWeightTransfer(every_n_epochs=1), 2).visited == "aaaabbbbbbccaaaa"
    lines = ledger()
    assert [line["visit"] for line in lines] == [0, 1, 2, 3]
    assert len({line["run"] for line in lines}) == 1
    assert lines[1]["sha256_out"] == lines[2]["sha256_in"]


def test_one_callback_serves_another_model_anew() -> None:
    transfer = CyclicalWeightTransfer(every_n_epochs=1)
    for _ in range(2):
        assert fit(transfer, max_epochs=3).visited == CYCLE
    assert len({line["run"] for line in ledger()}) == 2


def test_a_visit_that_the_end_of_the_run_cuts_short_is_on_record_and_resumes_later() -> None:
    assert fitted_twice(CyclicalWeightTransfer(every_n_epochs=2), 3).visited == "aaaa" * 2 + "bbbbbb" * 2
    lines = ledger()
    assert [(line["visit"], line["site"], line["steps"]) for line in lines] == [(0, "a", 8), (1, "b", 6), (1, "b", 6)]
    assert lines[1]["sha256_out"] == lines[2]["sha256_in"]
    assert len({line["run"] for line in lines}) == 1


def test_a_callback_that_served_an_interrupted_run_starts_a_new_one() -> None:
    class Break(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("broken")

    transfer = CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="local")
    with pytest.raises(RuntimeError, match="broken"):
        fit(transfer, Break())
    module = fit(transfer, max_epochs=1)
    [line] = ledger()
    assert (line["visit"], line["steps"], line["images"]) == (0, 4, 8)
    assert line["sha256_out"] == fingerprint(module.state_dict())[0]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used")
@pytest.mark.parametrize("interval", [{"every_n_epochs": 1}, {"every_n_steps": 3, "order": "shuffled"}])
@pytest.mark.parametrize("policy", ["reset", "carry", "local"])
def test_a_run_resumed_in_the_middle_of_a_visit_equals_the_unbroken_one(
    tmp_path: Path, interval: dict[str, Any], policy: Any
) -> None:
    def run(path: Path | None, *callbacks: Callback) -> str:
        pl.seed_everything(0, verbose=False)
        module = SmallModule()
        transfer = CyclicalWeightTransfer(**interval, optimizer_state=policy)
        fitting = trainer(transfer, *callbacks, max_epochs=3, enable_checkpointing=bool(callbacks))
        fitting.fit(module, SmallData(), ckpt_path=path, weights_only=True)
        return fingerprint(module.state_dict())[0]

    save = ModelCheckpoint(tmp_path / "saved", filename="{step}", every_n_train_steps=1, save_top_k=-1)
    unbroken = run(None, save)
    assert {run(tmp_path / "saved" / f"step={step}.ckpt") for step in (1, 5, 7)} == {unbroken}
