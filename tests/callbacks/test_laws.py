"""Laws 1 to 5 of the design: a visit is a pure function, only its site is read, the hand-off is proved, nothing is
unpickled, and interrupted equals unbroken.

Each law is also broken here on purpose, to see that its check notices.
"""

import itertools
import pickle
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, Dataset

from lit_dist import InputError, newest_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.callbacks.heuristics import weight_transfer
from lit_dist.checkpoints import tensor_file
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.visits import seeding, visit_batches
from small import SmallData, SmallModule, fit, inputs, ledger, loader, trainer

INTERVALS = [{"every_n_epochs": 1}, {"every_n_epochs": 2}, {"every_n_steps": 3}]


def final(*callbacks: Callback, transfer: dict[str, Any] | None = None, **kwargs: Any) -> str:
    module = fit(CyclicalWeightTransfer(**(transfer or {"every_n_epochs": 1})), *callbacks, **kwargs)
    return fingerprint(module.state_dict())[0]


class Noise(Callback):
    """Draws random numbers wherever it can."""

    def on_train_epoch_start(self, *_: Any) -> None:
        torch.rand(5)

    def on_train_batch_end(self, *_: Any) -> None:
        torch.rand(3)

    def on_validation_batch_end(self, *_: Any) -> None:
        torch.rand(2)


# -- law 1 -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("transfer", INTERVALS)
def test_weights_do_not_depend_on_workers_validation_or_what_else_draws(transfer: dict[str, int]) -> None:
    expected = final(transfer=transfer)
    assert final(transfer=transfer, data=SmallData(num_workers=2)) == expected
    assert final(Noise(), transfer=transfer) == expected
    assert final(transfer=transfer, limit_val_batches=0) == expected
    assert final(transfer={**transfer, "seed": 1}) != expected


@pytest.mark.parametrize("transfer", INTERVALS)
def test_a_visit_alone_equals_the_visit_in_the_run(transfer: dict[str, int]) -> None:
    """Start a run at visit 1 with the weights that visit 0 ended with: the same weights come out."""

    class Keep(Callback):
        def __init__(self) -> None:
            self.weights: dict[str, Any] = {}

        def on_train_batch_start(
            self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            site = int(batch[0][0, 0])
            self.weights.setdefault(site, {k: v.clone() for k, v in module.state_dict().items()})

    keep = Keep()
    fit(CyclicalWeightTransfer(**transfer), keep, max_epochs=6)
    visit = ledger()[1]

    class OnlyVisit1(weight_transfer.EpochPlan):
        def epoch(self, number: int, batches_a_step: int = 1) -> list[Any]:
            whole = super().epoch(number + transfer.get("every_n_epochs", 0), batches_a_step)
            return whole[1:2] if "every_n_steps" in transfer and number == 0 else whole

    Path("ledger.jsonl").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_transfer, "EpochPlan", OnlyVisit1)
        module = SmallModule()
        module.load_state_dict(keep.weights[1])
        fit(CyclicalWeightTransfer(**transfer), module=module, max_epochs=transfer.get("every_n_epochs", 1))
    assert [(line["visit"], line["sha256_in"]) for line in ledger()] == [(1, visit["sha256_in"])]
    assert fingerprint(module.state_dict())[0] == visit["sha256_out"]


@pytest.mark.parametrize("broken", ["step_seed", "pass_seed"])
def test_law_1_broken_by_a_seed_from_elsewhere_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = final()
    monkeypatch.setattr(visit_batches, broken, lambda *_: int(torch.empty((), dtype=torch.int64).random_()))
    assert final(Noise()) != expected


def test_law_1_broken_by_a_loader_that_is_not_seeded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lit_dist.visits.site_loader.pass_seed", lambda *_: seeding.derive(len(torch.get_rng_state()), "x")
    )
    same = [final(max_epochs=3), final(max_epochs=3)]
    for module in ("site_loader", "seeded_loader"):
        monkeypatch.setattr(f"lit_dist.visits.{module}.seed_generators", lambda *_, **__: None)
    assert same[0] == same[1]
    assert final(Noise(), max_epochs=3) != final(max_epochs=3)


_hidden = iter(itertools.cycle([0.1, 0.7, 0.4]))


class Augmented(Dataset[list[torch.Tensor]]):
    """Augments by chance, drawn from global generators, from one that lives in the worker, and from a hidden state."""

    def __init__(self, site: int, batches: int, hidden: bool) -> None:
        self.rows, self.hidden = inputs(site, batches), hidden
        self.transforms = [np.random.RandomState(0)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        row = self.rows[index].clone()
        row[2] += random.random() + float(np.random.rand()) + float(torch.rand(())) + self.transforms[0].rand()
        row[2] += next(_hidden) if self.hidden else 0
        return [row]


def augmented(hidden: bool, **kwargs: Any) -> str:
    class Data(SmallData):
        def train_dataloader(self) -> Any:
            return {
                "abc"[site]: DataLoader(Augmented(site, size, hidden), batch_size=2, shuffle=True, **self.kwargs)
                for site, size in enumerate(self.sizes)
            }

    return final(data=Data(**kwargs), max_epochs=4)


def test_a_datasets_augmentation_does_not_depend_on_the_workers() -> None:
    alone = augmented(hidden=False)
    assert augmented(hidden=False, num_workers=2) == alone
    assert augmented(hidden=False, num_workers=1, persistent_workers=True) == alone


def test_law_1_broken_by_an_augmentation_from_worker_state_is_noticed() -> None:
    assert augmented(hidden=True, num_workers=1) != augmented(hidden=True, num_workers=2)


# -- law 2 -----------------------------------------------------------------------------------------------------------


class Watched(Dataset[list[torch.Tensor]]):
    """Notes in a file who reads it, so that reads by worker processes are seen too."""

    def __init__(self, site: int, batches: int, log: Path) -> None:
        self.site, self.log, self.rows = site, log, inputs(site, batches)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        with self.log.open("a") as file:
            file.write("abc"[self.site])
        return [self.rows[index]]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("transfer", INTERVALS)
def test_only_the_active_site_is_read(transfer: dict[str, int], workers: int, tmp_path: Path) -> None:
    log = tmp_path / "reads"

    class Data(SmallData):
        def train_dataloader(self) -> Any:
            return {
                "abc"[site]: DataLoader(Watched(site, size, log), batch_size=2, num_workers=workers, shuffle=True)
                for site, size in enumerate(self.sizes)
            }

    class Check(Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            reads, site = log.read_text(), "abc"[int(batch[0][0, 0])]
            assert set(reads[self.seen :]) <= {site}, f"while {site} trained, {reads[self.seen :]} was read"
            self.seen = len(reads)

        seen = 0

    fit(CyclicalWeightTransfer(**transfer), Check(), data=Data([4, 4, 4]))
    assert set(log.read_text()) == {"a", "b", "c"}


def test_law_2_broken_by_a_foreign_loader_is_noticed(tmp_path: Path) -> None:
    class Data(SmallData):
        def train_dataloader(self) -> Any:
            sites = super().train_dataloader()
            return {**sites, "b": loader(0, 6)}  # b's loader gives a's images

    module = fit(CyclicalWeightTransfer(every_n_epochs=1), data=Data())
    assert module.visited != "aaaabbbbbbcc" * 2


# -- law 3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", INTERVALS)
@pytest.mark.parametrize("order", ["fixed", "shuffled", "no_repeat", ["c", "a"]])
def test_every_visit_starts_with_the_weights_that_the_last_one_ended_with(
    transfer: dict[str, int], order: str | list[str]
) -> None:
    module = fit(CyclicalWeightTransfer(**transfer, order=order), max_epochs=8)  # type: ignore[arg-type]
    lines = ledger()
    assert [line["visit"] for line in lines] == list(range(len(lines)))
    assert all(line["sha256_out"] == following["sha256_in"] for line, following in pairwise(lines))
    assert all(line["sha256_out"] != line["sha256_in"] for line in lines)
    assert lines[-1]["sha256_out"] == fingerprint(module.state_dict())[0]
    assert sum(line["steps"] for line in lines) == len(module.visited)
    assert sum(line["images"] for line in lines) == len(module.rows)
    visits = [line["site"] for line in lines for _ in range(line["steps"])]
    assert "".join(visits) == module.visited


class Swap(Callback):
    """Breaks the hand-off between two visits, as a site that trains a model of its own would."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch == 2:
            with torch.no_grad():
                dict([*module.named_parameters(), *module.named_buffers()])[self.what].add_(1)


@pytest.mark.parametrize("what", ["network.0.weight", "network.1.running_mean", "network.1.num_batches_tracked"])
def test_law_3_broken_by_other_weights_is_noticed(what: str) -> None:
    with pytest.raises(InputError, match="visit 2 at 'c' does not start with the weights that visit 1 ended with"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), Swap(what))
    assert [line["visit"] for line in ledger()] == [0, 1], "what was done before stays on record"


class OwnModels(Callback):
    """Breaks the hand-off as FLamby's cyclic strategy did: each site continues with a model of its own."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, torch.Tensor]] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        site = "abc"[trainer.current_epoch % 3]
        if trainer.current_epoch == 0:
            self.first = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.models.get(site, self.first))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        site = "abc"[trainer.current_epoch % 3]
        self.models[site] = {name: value.clone() for name, value in module.state_dict().items()}


def test_law_3_broken_by_a_model_of_each_sites_own_is_noticed() -> None:
    with pytest.raises(InputError, match="visit 1 at 'b' does not start with the weights that visit 0 ended with"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), OwnModels())


# -- law 4 -----------------------------------------------------------------------------------------------------------


def test_nothing_that_a_run_leaves_is_a_pickle_and_reading_it_back_unpickles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was pickled or unpickled")

    for module, names in ((pickle, ("load", "loads", "dump", "dumps")), (torch, ("load", "save"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    fit(CyclicalWeightTransfer(every_n_epochs=1, baton_dir="batons"), RunCheckpoint(), max_epochs=3)
    path = newest_checkpoint(Path())
    assert path is not None
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1), RunCheckpoint(), max_epochs=6)
    run.fit(SmallModule(), SmallData(), ckpt_path=path)
    left = [path for path in Path().rglob("*") if path.is_file() and path.name not in ("ledger.jsonl", "lock")]
    assert {path.suffix for path in left} == {".ckpt", ".baton"}
    assert all(tensor_file.is_ours(path) for path in left)


def test_law_4_broken_by_lightnings_own_checkpoints_is_noticed() -> None:
    with pytest.raises(InputError, match="without pickle"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), RunCheckpoint(), plugins=[])


# -- law 5 -----------------------------------------------------------------------------------------------------------


def resumed(transfer: dict[str, Any]) -> str:
    """The weights of a run that ended after three epochs and is resumed to six."""
    fit(CyclicalWeightTransfer(**transfer), RunCheckpoint(keep=9), max_epochs=6)
    path = sorted(Path("checkpoints").glob("*"))[1]
    pl.seed_everything(1, verbose=False)  # a process of its own would draw other numbers, too
    module = SmallModule()
    run = trainer(CyclicalWeightTransfer(**{**transfer, "seed": 0}), RunCheckpoint(), max_epochs=6)
    run.fit(module, SmallData(), ckpt_path=path)
    return fingerprint(module.state_dict())[0]


@pytest.mark.parametrize("transfer", INTERVALS)
def test_interrupted_equals_unbroken(transfer: dict[str, int]) -> None:
    expected = final(transfer=transfer)
    Path("ledger.jsonl").unlink()
    assert resumed(transfer) == expected


def test_law_5_broken_by_lightnings_own_restart_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    final(transfer={"every_n_epochs": 1})
    Path("ledger.jsonl").unlink()
    for module in ("heuristics.weight_transfer", "run_checkpoint"):
        monkeypatch.setattr(f"lit_dist.callbacks.{module}.make_resumable", lambda *_: None)
        monkeypatch.setattr(f"lit_dist.callbacks.{module}.end_restart", lambda *_: None)
    with pytest.raises(InputError, match=r"visit \d is due, and the fit would begin with visit \d"):
        resumed({"every_n_epochs": 1})
