from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer

from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, SingleWeightTransfer
from lit_dist.callbacks.ending import ending
from small import SmallData, SmallModule, trainer


class Stop(Callback):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch == 1


class Diverging(SmallModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.visited.count("b") and self.visited[-1] == "b" else loss


class NotANumber(SmallModule):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", float("nan"))


def ended(*callbacks: Callback, module: SmallModule | None = None, **settings: Any) -> list[str]:
    pl.seed_everything(0, verbose=False)
    fitted = trainer(*callbacks, **settings)
    fitted.fit(module or SmallModule(), SmallData())
    return ending(fitted)


def test_early_stopping_says_the_metric_its_value_and_the_patience() -> None:
    [line] = ended(CyclicalWeightTransfer(1), EarlyStopping("val_loss", min_delta=100.0, patience=2))
    assert line.startswith(
        "The fit ended after 3 of 6 epochs and 12 steps: EarlyStopping: Monitored metric val_loss did"
    )
    assert "in the last 2 records. Best score: " in line
    [line] = ended(CyclicalWeightTransfer(1), EarlyStopping("val_loss"), module=NotANumber())
    assert "after 1 of 6 epochs and 4 steps: EarlyStopping: Monitored metric val_loss = nan is not finite" in line


@pytest.mark.parametrize(
    ("callbacks", "settings", "line"),
    [
        ([CyclicalWeightTransfer(1), Stop()], {}, "after 2 of 6 epochs and 10 steps: a callback or the module has set"),
        (
            [CyclicalWeightTransfer(1), Timer(timedelta(milliseconds=1)), RunCheckpoint()],
            {},
            "steps: its time is up (max_time)",
        ),
        ([SingleWeightTransfer(max_epochs_per_site=1)], {}, "after 3 of 6 epochs and 12 steps: single weight transfer"),
    ],
)
def test_other_reasons(callbacks: list[Callback], settings: dict[str, Any], line: str) -> None:
    [found] = ended(*callbacks, **settings)
    assert line in found


def test_a_single_transfer_that_watches_what_is_no_number_says_so() -> None:
    with pytest.warns(UserWarning, match="'val_loss', which SingleWeightTransfer monitors, is NaN"):
        ended(SingleWeightTransfer(patience=1), module=NotANumber())


@pytest.mark.parametrize("settings", [{"max_epochs": 3}, {"max_epochs": 6, "max_steps": 5}])
def test_a_fit_that_did_what_was_asked_for_says_nothing(settings: dict[str, Any]) -> None:
    assert ended(CyclicalWeightTransfer(1), **settings) == []


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_visits_that_diverged_are_counted_by_site() -> None:
    with pytest.warns(UserWarning, match="training diverged"):
        lines = ended(CyclicalWeightTransfer(1, on_divergence="skip"), module=Diverging())
    assert lines == ["2 visits diverged and were left out, by site: b (2)"]
