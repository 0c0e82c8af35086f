"""Validation by site with any module: names, weights, metrics, and that all else is left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, MeanSquaredError, MetricCollection
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, SingleWeightTransfer, SiteEvaluation, SiteValidation
from small import SmallModule, loaders, trainer

VALUES = {"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [10.0, 20.0], "c": [7.0]}
"""What each record of each site counts."""


def values(batch_size: int = 2, collate: Any = None) -> dict[str, DataLoader[Any]]:
    return {site: DataLoader(v, batch_size, collate_fn=collate) for site, v in VALUES.items()}  # type: ignore[arg-type]


class Logs(SmallModule):
    """Logs the mean of its batches, which are numbers."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        self.log("val_loss", batch.mean())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", batch.mean())


def validated(module: pl.LightningModule, given: Any = None, **kwargs: Any) -> dict[str, float]:
    [found, *_] = trainer(SiteValidation(), **kwargs).validate(
        module, values() if given is None else given, verbose=False
    )
    return dict(found)


def by_site(name: str, a: float, b: float, c: float, **whole: float) -> dict[str, float]:
    return pytest.approx({f"{name}/a": a, f"{name}/b": b, f"{name}/c": c, **whole})


def test_a_value_is_weighted_by_records() -> None:
    assert validated(Logs()) == by_site("val_loss", 3, 15, 7, val_loss=52 / 8)


def test_a_test_is_by_site_too() -> None:
    [found, *_] = trainer(SiteValidation()).test(Logs(), values(), verbose=False)
    assert found == by_site("test_loss", 3, 15, 7, test_loss=52 / 8)


def test_a_detector_s_lists_are_counted() -> None:
    def collate(records: list[float]) -> Any:
        return [torch.full((3, 9, 9), each) for each in records], [{"boxes": torch.zeros(1, 4)} for _ in records]

    class Detects(Logs):
        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.log("val_loss", torch.stack(batch[0]).mean())

    assert validated(Detects(), values(2, collate)) == by_site("val_loss", 3, 15, 7, val_loss=52 / 8)


def test_hooks_of_an_epoch_are_called_for_each_site() -> None:
    class Collects(Logs):
        def on_validation_epoch_start(self) -> None:
            self.seen: list[Tensor] = []

        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.log("val_loss", batch.mean())
            self.seen.append(batch)

        def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            assert len(batch)

        def on_validation_epoch_end(self) -> None:
            mean = torch.cat(self.seen).mean()
            self.log_dict({"val_median": torch.cat(self.seen).median(), "val_mean": mean})
            assert self.trainer.callback_metrics["val_loss"] == pytest.approx(mean.item())

    found = validated(Collects())
    assert {name: v for name, v in found.items() if "median" in name} == by_site(
        "val_median", 3, 10, 7, val_median=(3 * 5 + 10 * 2 + 7) / 8
    )


class Measures(Logs):
    """Logs torchmetrics: one whose states add up, one of all records, and one whose states do not add up."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = MeanMetric()
        self.many = MetricCollection({"val_mse": MeanSquaredError(), "val_rho": SpearmanCorrCoef()})
        self.pearson = PearsonCorrCoef()

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        other = torch.cos(batch)
        self.mean.update(batch)
        self.many.update(batch.float(), other.float())
        self.pearson.update(batch.float(), other.float())
        self.log("val_mean_value", self.mean)
        self.log_dict(self.many)
        self.log("val_pearson", self.pearson)


@pytest.mark.filterwarnings("ignore:Metric `SpearmanCorrcoef` will save all targets")
def test_torchmetrics_are_computed_by_site_and_of_all_records_where_their_states_add_up() -> None:
    sites = {"a": VALUES["a"], "b": VALUES["b"]}
    given = {site: DataLoader(v, 2) for site, v in sites.items()}  # type: ignore[arg-type]
    module = Measures()
    for _ in range(2):  # they are reset
        found = validated(module, given)
    tensors = {site: torch.tensor(v) for site, v in sites.items()} | {"": torch.tensor([*sites["a"], *sites["b"]])}
    for site, x in tensors.items():
        end = f"/{site}" if site else ""
        assert found[f"val_mse{end}"] == pytest.approx(float((x - x.cos()).square().mean()))
        assert found[f"val_rho{end}"] == pytest.approx(float(SpearmanCorrCoef()(x, x.cos())), abs=1e-6)
    assert "val_pearson" not in found
    mean = (5 * found["val_pearson/a"] + 2 * found["val_pearson/b"]) / 7
    assert found["val_mean_pearson"] == pytest.approx(mean)


def test_numbers_may_be_added_up_and_names_may_be_forked_or_have_a_site() -> None:
    class Sums(Logs):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:  # type: ignore[override]
            site = list(self.trainer.val_dataloaders)[dataloader_idx]  # type: ignore[arg-type]
            self.log("val_sum", batch.sum(), reduce_fx="sum")
            self.log("val_most", batch.max(), reduce_fx=torch.max)
            self.log(f"val_loss/{site}", batch.mean(), add_dataloader_idx=False, on_step=True, on_epoch=True)

    found = validated(Sums())
    assert {name: v for name, v in found.items() if name.startswith("val_sum")} == by_site("val_sum", 15, 30, 7)
    assert found["val_most/a"] == 5
    for name in ("val_loss", "val_loss_epoch"):
        assert {n: v for n, v in found.items() if n.partition("/")[0] == name} == by_site(name, 3, 15, 7, **{name: 6.5})


def test_a_loss_that_is_returned_counts_where_none_is_logged() -> None:
    class Returns(Logs):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
            return {"loss": batch.mean()}

    assert validated(Returns()) == by_site("val_loss", 3, 15, 7, val_loss=52 / 8)


def test_a_module_within_logs_too() -> None:
    class Outer(Logs):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Logs()

        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.inner.validation_step(batch, batch_idx)

    assert validated(Outer())["val_loss/b"] == 15


@pytest.mark.parametrize("kind", ["one", "list", "at once"])
def test_loaders_that_are_not_one_a_site_are_left_to_lightning(kind: str) -> None:
    class Any_(Logs):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:  # type: ignore[override]
            self.log("val_loss", torch.ones(()), batch_size=1)

    one = values()["a"]
    given = {"one": one, "list": [one, one], "at once": CombinedLoader({"x": one, "y": one}, "max_size_cycle")}[kind]
    assert validated(Any_(), given).keys() == {"val_loss/dataloader_idx_0" if kind == "list" else "val_loss"}


def test_a_site_with_two_loaders_is_one_site() -> None:
    one = values()
    assert validated(Logs(), {"a": {"x": one["a"], "y": one["b"]}, "c": one["c"]})["val_loss/a"] == pytest.approx(
        45 / 7
    )


def test_the_module_is_as_it_was_after_a_failure() -> None:
    class Fails(Logs):
        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            raise KeyError("broken")

    module = Fails()
    with pytest.raises(KeyError, match="broken"):
        validated(module)
    assert {"log", "validation_step", "on_validation_epoch_end"} & set(vars(module)) == set()


@pytest.mark.parametrize("value", [torch.ones(2), "text"])
def test_what_is_no_number_is_refused(value: Any) -> None:
    class Wrong(Logs):
        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.log("val_loss", value)

    with pytest.raises(InputError, match=r"self.log\('val_loss', ...\) is given .* no single number"):
        validated(Wrong())


# -- what a fit is steered by ------------------------------------------------------------------------------------------


class Trains(SmallModule):
    """Logs with the sites' batches of a small module, and notices each validation step."""

    steps = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        super().validation_step(batch, batch_idx)


def fit(*callbacks: Any, validation: Any = None, **kwargs: Any) -> Trains:
    pl.seed_everything(0, verbose=False)
    module = Trains()
    given = loaders([2, 1, 1], shuffle=False) if validation is None else validation
    trainer(*callbacks, **kwargs).fit(module, loaders(), given)
    return module


MONITORS: dict[str, tuple[list[Any], Any]] = {
    "a transfer": ([SingleWeightTransfer("val_dice/{site}")], None),
    "a site that there is not": ([SingleWeightTransfer("val_loss/x")], None),
    "one loader": ([SingleWeightTransfer("val_loss/{site}")], loaders([2], shuffle=False)["a"]),
    "the best": ([CyclicalWeightTransfer(every_n_epochs=1), ModelCheckpoint(monitor="val_dice")], None),
    "the end": ([CyclicalWeightTransfer(every_n_epochs=1), EarlyStopping("val_loss/dataloader_idx_0")], None),
}


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("name", MONITORS)
def test_what_is_not_logged_is_refused_before_the_first_step(name: str, sanity: int) -> None:
    callbacks, validation = MONITORS[name]
    with pytest.raises(InputError, match=r"monitors 'val_.*', and the validation logs .*val_loss"):
        fit(*callbacks, validation=validation, num_sanity_val_steps=sanity)
    assert not Path("ledger.jsonl").exists()


def test_to_look_before_the_first_step_leaves_no_trace() -> None:
    ends = []
    for monitor in ("val_loss/{site}", "train_loss"):  # the second is looked up nowhere
        Path("ledger.jsonl").unlink(missing_ok=True)
        module = fit(SingleWeightTransfer(monitor, patience=9, max_epochs_per_site=1, hand_over="last"))
        ends.append((module.steps, [each.sum().item() for each in module.state_dict().values()]))
    assert ends[0] == ends[1]


class Asks(Trains):
    """Asks for the loader's number; Lightning would refuse it where there is one loader."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:  # type: ignore[override]
        super().validation_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:Total length of `DataLoader` across ranks is zero")
def test_a_module_may_ask_for_the_loader_and_a_site_may_have_no_record() -> None:
    given = {**loaders([2, 1], shuffle=False), "c": DataLoader([], 2)}  # type: ignore[arg-type]
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation("visit"), max_epochs=3)
    run.fit(Asks(), loaders(), given)
    sites = [line.split(",")[3] for line in Path("site_matrix.csv").read_text().splitlines()[1:]]
    assert sites == ["a", "b"] * 3
    assert "val_loss/c" not in run.callback_metrics
    run.validate(Asks(), {"a": given["a"]}, verbose=False)


def test_site_evaluation_names_what_there_is_before_the_first_step() -> None:
    with pytest.raises(InputError, match="metric='dice' is not one of what the module logs: val_loss"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation(metric="dice"))
    with pytest.raises(InputError, match="whether 'speed' improves by falling or by rising is not known: set mode"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), SiteEvaluation(metric="speed"))
    assert not Path("ledger.jsonl").exists()


# -- several processes ------------------------------------------------------------------------------------------------

TWO = """
import json
from pathlib import Path
import torch
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from lit_dist.callbacks import SiteValidation
from small import SmallModule, trainer

class Logs(SmallModule):
    def __init__(self):
        super().__init__()
        self.metrics = torch.nn.ModuleDict({name: MeanMetric() for name in "pqrs"})

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", batch.mean())
        if self.global_rank == 0:
            self.log("val_first", batch.min(), rank_zero_only=True)
        for number, (name, metric) in enumerate(self.metrics.items()):
            metric.update(batch + number)
            self.log(f"val_{name}", metric)

run = trainer(SiteValidation(), devices=2, strategy="ddp")
given = {site: DataLoader(torch.arange(float(size)), 2) for site, size in {"a": 8, "b": 4}.items()}
run.validate(Logs(), given, verbose=False)
if run.is_global_zero:
    Path("found.json").write_text(json.dumps({name: float(value) for name, value in run.callback_metrics.items()}))
"""


@pytest.mark.slow
def test_two_processes_find_what_one_finds_and_log_it_in_one_order() -> None:
    Path("two.py").write_text(TWO)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "two.py"], env=environment, check=True, timeout=200, capture_output=True)
    found = json.loads(Path("found.json").read_text())
    means = {f"{name}{end}": mean + number for number, name in enumerate("pqrs") for end, mean in ENDS.items()}
    expected = {f"val_{name}": value for name, value in means.items()} | {f"val_loss{e}": m for e, m in ENDS.items()}
    assert {name: value for name, value in found.items() if name in expected} == pytest.approx(expected)
    assert found["val_first/a"] == pytest.approx((0 + 4) / 2), "of the first process's batches"


ENDS = {"/a": 3.5, "/b": 1.5, "": (8 * 3.5 + 4 * 1.5) / 12}
