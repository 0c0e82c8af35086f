"""Which of the values that a module logs stand in the ledger, and in which visit's line."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.visit_metrics import VisitMetrics
from small import SmallData, SmallModule, fit, ledger, trainer

EACH = {"every_n_epochs": 1}


class Counting(SmallModule):
    """Logs the number of its training steps, and in validation the number of its validations."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = self.validations = 0

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.steps += 1
        self.log("steps", float(self.steps))
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.validations += 1
        self.log("validations", float(self.validations))


def metrics(transfer: dict[str, Any], module: SmallModule | None = None, **options: Any) -> list[dict[str, Any]]:
    """What stands in each line for a visit's metrics."""
    fit(CyclicalWeightTransfer(**transfer), module=module or Counting(), **options)
    return [line["metrics"] for line in ledger()]


@pytest.mark.parametrize(
    ("transfer", "options", "steps", "validations"),
    [
        (EACH, {}, [4, 10, 12, 16, 22, 24], [1, 2, 3, 4, 5, 6]),
        (EACH, {"check_val_every_n_epoch": 2}, [4, 10, 12, 16, 22, 24], [None, 1, None, 2, None, 3]),
        ({**EACH, "validation": "cycle"}, {}, [4, 10, 12, 16, 22, 24], [None, None, 1, None, None, 2]),
        (EACH, {"limit_val_batches": 0}, [4, 10, 12, 16, 22, 24], [None] * 6),
        (
            EACH,
            {"num_sanity_val_steps": 2, "check_val_every_n_epoch": 3},
            [4, 10, 12, 16, 22, 24],
            [None, None, 2, None, None, 3],
        ),
        ({"every_n_epochs": 2}, {}, [8, 20, 24], [2, 4, 6]),
        ({"every_n_epochs": 2}, {"check_val_every_n_epoch": 3}, [8, 20, 24], [None, None, 2]),
        ({"every_n_steps": 3}, {"max_epochs": 2}, [3, 6, 9, 12, 15, 18], [None, None, 1, None, None, 2]),
        ({**EACH, "order": ["a", "b"]}, {"val_check_interval": 0.5, "max_epochs": 2}, [4, 10], [2, 4]),
    ],
)
def test_a_visit_has_its_training_and_the_validation_after_it(
    transfer: dict[str, Any], options: dict[str, Any], steps: list[int], validations: list[int | None]
) -> None:
    found = metrics(transfer, **options)
    assert [line["steps"] for line in found] == steps
    assert [line.get("validations") for line in found] == validations
    for line in found:
        names = {"steps", "train_loss"} | ({"val_loss", "validations"} if "validations" in line else set())
        assert line.keys() == names
        assert list(line) == sorted(line)


def test_a_validation_in_the_middle_of_a_visit_is_none_of_it() -> None:
    found = metrics(EACH, val_check_interval=4, check_val_every_n_epoch=None, max_epochs=3)  # after steps 4, 8 and 12
    assert [line.get("validations") for line in found] == [1, None, 3]


def test_the_values_are_those_that_were_logged() -> None:
    class Noting(SmallModule):
        def __init__(self) -> None:
            super().__init__()
            self.losses: list[float] = []

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.losses.append(loss.item())
            return loss

    module = Noting()
    found = metrics(EACH, module, limit_val_batches=0)
    assert [line["train_loss"] for line in found] == [module.losses[step - 1] for step in (4, 10, 12, 16, 22, 24)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(value: float) -> None:
    class Odd(SmallModule):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            self.log("odd", value)
            return super().training_step(batch, batch_idx)

        def on_validation_epoch_end(self) -> None:
            self.log("val_odd", torch.tensor(value))

    found = metrics(EACH, Odd(), max_epochs=2)
    assert [(line["odd"], line["val_odd"]) for line in found] == [(None, None)] * 2
    assert all(math.isfinite(line["train_loss"]) and math.isfinite(line["val_loss"]) for line in found)
    text = Path("ledger.jsonl").read_text()
    assert '"odd": null' in text
    assert "NaN" not in text
    assert "Infinity" not in text
    assert read_entries(Path("ledger.jsonl"))[0].metrics["odd"] is None


def test_a_value_that_is_logged_in_both_belongs_to_training() -> None:
    class Both(SmallModule):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            self.log("loss", 1.0)
            return super().training_step(batch, batch_idx)

        def on_validation_epoch_end(self) -> None:
            self.log("loss", 2.0)

    assert [line["loss"] for line in metrics(EACH, Both(), max_epochs=3)] == [1.0] * 3


def test_what_the_transfer_logs_itself_is_left_out() -> None:
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1), max_epochs=2)
    run.fit(SmallModule(), SmallData())
    assert {"visit", "cycle", "site"} <= run.callback_metrics.keys()
    assert [line["metrics"].keys() for line in ledger()] == [{"train_loss", "val_loss"}] * 2


def test_the_validation_after_a_visit_that_is_cut_short_is_its_own() -> None:
    found = metrics({"every_n_epochs": 2}, max_epochs=3)
    assert [line["outcome"] for line in ledger()] == ["trained", "cut short"]
    assert [line.get("validations") for line in found] == [2, 3]


def test_a_mean_over_the_epoch_is_that_of_the_visit() -> None:
    class Mean(SmallModule):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log("mean_site", float("abc".index(self.visited[-1])), on_step=False, on_epoch=True)
            return loss

    assert [line.get("mean_site") for line in metrics(EACH, Mean())] == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]


def test_a_validation_counts_until_the_training_after_it_ends() -> None:
    class Values:
        callback_metrics: ClassVar[dict[str, Tensor]] = {"train_loss": torch.tensor(1.0), "visit": torch.tensor(0.0)}

    trainer: Any = Values()
    visit = VisitMetrics()
    visit.forget_validation()
    assert visit.of_epoch(trainer) == {"train_loss": 1.0}
    visit.validation_starts(trainer)
    trainer.callback_metrics["val_loss"] = torch.tensor(2.0)
    visit.validation_ends(trainer)
    assert visit.of_epoch(trainer) == {"train_loss": 1.0, "val_loss": 2.0}
    assert visit.of_training(trainer) == {"train_loss": 1.0}
    visit.forget_validation()
    assert visit.of_epoch(trainer) == {"train_loss": 1.0}
    visit.validation_starts(trainer)
    visit.validation_ends(trainer)
    assert visit.of_epoch(trainer) == {"train_loss": 1.0, "val_loss": 2.0}
