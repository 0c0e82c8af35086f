"""The mechanics of a transfer, seen from Lightning's side."""

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader

from lit_dist.callbacks import CyclicalWeightTransfer, FederatedAveraging, SingleWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.utils.errors import InputError
from lit_dist.visits.site_loader import SiteLoader
from small import SIZES, SmallData, SmallModule, Stream, fit, loader, loaders, trainer

CYCLE = "aaaabbbbbbcc"


class Lengths(Callback):
    """Records what the progress bar is told about each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append(trainer.num_training_batches)


# -- which batches, and how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "settings", "visited", "lengths"),
    [
        ({"every_n_epochs": 1}, {}, CYCLE * 2, [4, 6, 2] * 2),
        ({"every_n_epochs": 2}, {}, "aaaa" * 2 + "bbbbbb" * 2 + "cc" * 2, [4, 4, 6, 6, 2, 2]),
        ({"every_n_epochs": 1, "order": ["c", "a"]}, {"max_epochs": 3}, "ccaaaacc", [2, 4, 2]),
        ({"every_n_steps": 3}, {"max_epochs": 2}, "aaabbbccc" * 2, [9, 9]),
        ({"every_n_steps": 5}, {"max_epochs": 1}, "aaaaabbbbbccccc", [15]),
        ({"every_n_steps": 2}, {"max_epochs": 2, "accumulate_grad_batches": 2}, "aaaabbbbcccc" * 2, [12, 12]),
        ({"every_n_epochs": 1}, {"accumulate_grad_batches": 4}, CYCLE * 2, [4, 6, 2] * 2),
        ({"every_n_epochs": 1}, {"limit_train_batches": 3}, "aaabbbcc" * 2, [3, 3, 2] * 2),
        ({"every_n_epochs": 1}, {"limit_train_batches": 0.5}, "aabbbc" * 2, [2, 3, 1] * 2),
        ({"every_n_steps": 3}, {"max_epochs": 2, "limit_train_batches": 1}, "abc" * 2, [3, 3]),
        ({"every_n_epochs": 1}, {"max_steps": 7, "max_epochs": -1}, "aaaabbb", [4, 6]),
        ({"every_n_steps": 2}, {"max_steps": 7, "max_epochs": -1}, "aabbcca", [6, 6]),
        ({"every_n_epochs": 1}, {"fast_dev_run": True}, "a", [1]),
        ({"every_n_epochs": 1}, {"fast_dev_run": 2}, "aa", [2]),
        ({"every_n_steps": 2}, {"fast_dev_run": True}, "a", [3]),
        ({"every_n_epochs": 1}, {"val_check_interval": 0.5}, CYCLE * 2, [4, 6, 2] * 2),
        ({"every_n_epochs": 1}, {"val_check_interval": 2}, CYCLE * 2, [4, 6, 2] * 2),
        ({"every_n_epochs": 1}, {"val_check_interval": 5, "check_val_every_n_epoch": None}, CYCLE * 2, [4, 6, 2] * 2),
        ({"every_n_epochs": 1}, {"reload_dataloaders_every_n_epochs": 2}, CYCLE * 2, [4, 6, 2] * 2),
    ],
)
def test_each_visit_draws_its_own_batches(
    interval: dict[str, Any], settings: dict[str, Any], visited: str, lengths: list[int]
) -> None:
    record = Lengths()
    data = SmallData()
    module = fit(CyclicalWeightTransfer(**interval), record, data=data, **settings)
    assert (module.visited, record.seen) == (visited, lengths)
    assert data.requests == (3 if "reload_dataloaders_every_n_epochs" in settings else 1)
    assert "train_dataloader" not in vars(data)


def test_overfitting_repeats_the_same_batches_of_each_site() -> None:
    with pytest.warns(UserWarning, match="overfit"):
        module = fit(CyclicalWeightTransfer(every_n_epochs=1), overfit_batches=2)
    assert module.visited == "aabbcc" * 2
    assert module.rows == [0, 1, 2, 3] * 6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_visits_images_are_its_own_sites_and_each_is_drawn_once(workers: int) -> None:
    module = fit(CyclicalWeightTransfer(every_n_epochs=1), data=SmallData(num_workers=workers), max_epochs=3)
    assert sorted(module.rows[:8]) == list(range(8))
    assert sorted(module.rows[8:20]) == list(range(12))
    assert sorted(module.rows[20:]) == list(range(4))


@pytest.mark.parametrize("interval", [{"every_n_epochs": 1}, {"every_n_steps": 3}])
def test_sites_of_unknown_length(interval: dict[str, int]) -> None:
    class Streams(SmallData):
        def train_dataloader(self) -> Any:
            return {site: DataLoader(Wrapped(number, SIZES[site]), batch_size=2) for number, site in enumerate("abc")}

    class Wrapped(Stream):
        def __iter__(self) -> Any:
            return ([row] for row in super().__iter__())

    module = fit(CyclicalWeightTransfer(**interval), data=Streams(), max_epochs=3)
    assert module.visited == (CYCLE if "every_n_epochs" in interval else "aaabbbccc" * 3)


def test_loaders_of_a_module_a_list_and_a_site_loader() -> None:
    class Self(SmallModule):
        def train_dataloader(self) -> Any:
            return [loader(0, 4), loader(1, 6), loader(2, 2)]

    module = Self()
    trainer(CyclicalWeightTransfer(every_n_epochs=1)).fit(module, val_dataloaders=loader(0, 2, shuffle=False))
    assert module.visited == CYCLE * 2
    assert "train_dataloader" not in vars(module)

    site_loader = SiteLoader(loaders())
    assert fit(CyclicalWeightTransfer(every_n_epochs=1), data=site_loader).visited == CYCLE * 2
    assert len(site_loader) == 4, "the loader goes back to its first site"


# -- schedules and other callbacks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]])
@pytest.mark.parametrize(
    "settings",
    [
        {"every_n_epochs": 1},
        {"every_n_epochs": 1, "accumulate_grad_batches": 2},
        {"every_n_epochs": 2, "max_epochs": 12},
        {"every_n_steps": 3},
        {"every_n_epochs": 1, "limit_train_batches": 2},
        {"every_n_epochs": 1, "max_epochs": 4},
    ],
)
def test_the_number_of_steps_is_known_beforehand(order: list[str], settings: dict[str, Any]) -> None:
    estimates: list[float] = []

    class OneCycle(SmallModule):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            estimates.append(self.trainer.estimated_stepping_batches)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=int(estimates[0]))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    interval = {name: value for name, value in settings.items() if name.startswith("every")}
    others = {name: value for name, value in settings.items() if name not in interval}
    run = trainer(CyclicalWeightTransfer(**interval, order=order), **others)
    run.fit(OneCycle(), SmallData())
    whole_cycles = run.max_epochs % 3 == 0
    assert estimates[0] == run.global_step if whole_cycles else 0 <= estimates[0] - run.global_step < run.max_epochs


@pytest.mark.slow
def test_tuners_leave_the_run_as_it_is(tmp_path: Path) -> None:
    module, data = SmallModule(), SmallData([12, 12, 12])
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1), max_epochs=3)
    tuner = Tuner(run)
    tuner.scale_batch_size(module, datamodule=data, max_trials=2, steps_per_trial=2, init_val=2)
    assert data.batch_size > 2
    tuner.lr_find(module, datamodule=data, num_training=8, min_lr=1e-4)
    module.visited = ""
    run.fit(module, data)
    batches = 24 // data.batch_size
    assert module.visited == "a" * batches + "b" * batches + "c" * batches
    assert "train_dataloader" not in vars(data)


def test_other_callbacks_of_lightning_go_along() -> None:
    stop, average = EarlyStopping("val_loss", patience=50), EMAWeightAveraging(decay=0.9)
    module = fit(CyclicalWeightTransfer(every_n_epochs=1), stop, average)
    assert module.visited == CYCLE * 2


@pytest.mark.parametrize("first", [True, False])
def test_validation_after_each_cycle(first: bool) -> None:
    checks: list[int] = []

    class Note(Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            checks.append(trainer.current_epoch)

    stop, note = EarlyStopping("val_loss", patience=9), Note()
    best = ModelCheckpoint(monitor="val_loss", save_top_k=-1)
    transfer = CyclicalWeightTransfer(every_n_epochs=2, validation="cycle")
    callbacks = [transfer, stop, note, best] if first else [stop, note, best, transfer]
    pl.seed_everything(0, verbose=False)
    run = trainer(*callbacks, max_epochs=12, enable_checkpointing=True)
    run.fit(SmallModule(), SmallData())
    assert checks == [5, 11]
    assert len(best.best_k_models) == 2
    assert run.check_val_every_n_epoch == 1, "the trainer's setting comes back"


def test_the_users_own_validation_setting_wins() -> None:
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1, validation="cycle"), check_val_every_n_epoch=2)
    run.fit(SmallModule(), SmallData())
    assert run.check_val_every_n_epoch == 2


def test_a_last_cycle_without_validation_is_announced() -> None:
    with pytest.warns(UserWarning, match="max_epochs=4 ends in the middle of a cycle of 3"):
        fit(CyclicalWeightTransfer(every_n_epochs=1, validation="cycle"), max_epochs=4)


@pytest.mark.parametrize("interval", [{"every_n_epochs": 1}, {"every_n_steps": 3}])
def test_curves_can_be_coloured_by_site(tmp_path: Path, interval: dict[str, int]) -> None:
    logger = CSVLogger(tmp_path, name="", version="run")
    fit(CyclicalWeightTransfer(**interval), logger=logger, log_every_n_steps=1, max_epochs=3, val_check_interval=1.0)
    header, *rows = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    columns = [dict(zip(header, row, strict=True)) for row in rows]
    logged = [row for row in columns if row["train_loss"]]
    sites = "".join("abc"[int(float(row["site"]))] for row in logged)
    assert sites == (CYCLE if "every_n_epochs" in interval else "aaabbbccc" * 3)
    assert [float(row["visit"]) for row in logged] == sorted(float(row["visit"]) for row in logged)
    assert "a" in (tmp_path / "run" / "hparams.yaml").read_text()


def test_the_progress_bar_shows_the_site(capsys: pytest.CaptureFixture[str]) -> None:
    class Bar(pl.callbacks.TQDMProgressBar):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
            super().on_train_batch_end(trainer, pl_module, *args)
            shown.append(str(self.get_metrics(trainer, pl_module)["site"]))

    shown: list[str] = []
    bar = Bar()
    module = fit(CyclicalWeightTransfer(every_n_epochs=1), bar, enable_progress_bar=True, max_epochs=3)
    assert "".join(shown) == module.visited
    assert "site=c" in capsys.readouterr().out
    assert "get_metrics" not in vars(bar)


# -- clean-up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_fit_start", "setup"])
def test_after_an_exception_everything_is_as_it_was(exception: type[BaseException], hook: str) -> None:
    class Break(Callback):
        pass

    def fail(*_: Any, **__: Any) -> None:
        raise exception("broken")

    setattr(Break, hook, fail)
    data, module = SmallData(), SmallModule()
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1, validation="cycle"), Break())
    with pytest.raises((exception, SystemExit)):
        run.fit(module, data)
    assert "train_dataloader" not in vars(data)
    assert run.reload_dataloaders_every_n_epochs == 0
    assert run.check_val_every_n_epoch == 1
    assert fit(CyclicalWeightTransfer(every_n_epochs=1), data=data).visited == CYCLE * 2


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "every_n_epochs or every_n_steps, and only one"),
        ({"every_n_epochs": 1, "every_n_steps": 1}, "and only one"),
        ({"every_n_epochs": 0}, "count from 1"),
        ({"every_n_steps": -2}, "count from 1"),
        ({"every_n_epochs": 1, "optimizer_state": "keep"}, "'keep' is not one of"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CyclicalWeightTransfer(**settings)


def test_refused_fits() -> None:
    transfer = CyclicalWeightTransfer(every_n_epochs=1)
    cases: list[tuple[list[Callback], Any, dict[str, Any], str]] = [
        ([transfer, CyclicalWeightTransfer(every_n_steps=2)], SmallData(), {}, "two transfer callbacks"),
        ([transfer], loader(0, 4), {}, r"was given DataLoader as its training loader; let train_dataloader\(\) return"),
        (
            [CyclicalWeightTransfer(every_n_epochs=1, order=["a", "x"])],
            SmallData(),
            {},
            "'x', which is not one of a, b, c",
        ),
        ([transfer], SmallData([4, 0, 2], shuffle=False), {}, "'b' has no training batches"),
        ([transfer], SmallData([4]), {}, "needs at least two sites"),
        ([transfer], SmallData(), {"val_check_interval": 3}, "site 'c' has 2; take a fraction"),
        ([transfer, StochasticWeightAveraging(0.01)], SmallData(), {}, "use EMAWeightAveraging"),
        (
            [CyclicalWeightTransfer(every_n_steps=1), pl.callbacks.GradientAccumulationScheduler({0: 2})],
            SmallData(),
            {},
            "one accumulate_grad_batches",
        ),
    ]
    for callbacks, data, settings, message in cases:
        with pytest.raises(InputError, match=message):
            fit(*callbacks, data=data, **settings)
        if isinstance(data, SmallData):
            assert "train_dataloader" not in vars(data)


def test_one_loader_of_a_datamodule_is_refused() -> None:
    class One(SmallData):
        def train_dataloader(self) -> Any:
            return loader(0, 4)

    with pytest.raises(InputError, match="one DataLoader, not one loader a site"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), data=One())


def test_a_fit_without_the_callback_is_untouched() -> None:
    module = fit(data=SiteLoader(loaders(), active="b"), max_epochs=1)
    assert module.visited == "bbbbbb"
    assert len(fingerprint(module.state_dict())[0]) == 64


@pytest.mark.slow
def test_a_hundred_sites_with_workers_keep_no_more_alive_than_one() -> None:
    """Processes, open files and memory at the hundredth site are those at the tenth."""
    seen: list[tuple[int, int, int]] = []

    class Look(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            assert len(torch.multiprocessing.active_children()) <= 2, f"after {len(seen)} batches"
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            seen.append((len(torch.multiprocessing.active_children()), len(os.listdir("/proc/self/fd")), pages))

    class Many(SmallData):
        def train_dataloader(self) -> Any:
            return {f"site-{number}": loader(number % 8, 3, num_workers=2) for number in range(100)}

    fit(CyclicalWeightTransfer(every_n_epochs=1), Look(), data=Many(), max_epochs=100, limit_val_batches=0)
    processes, files, pages = zip(*seen, strict=True)
    assert len(seen) == 300
    assert max(processes) <= 2
    assert max(files[270:]) <= max(files[:30]) + 2
    assert max(pages[270:]) * 4096 <= max(pages[:30]) * 4096 + 30e6


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (FederatedAveraging, "validation", "FederatedAveraging sets validation itself; leave it out"),
        (FederatedAveraging, "order", "FederatedAveraging has no argument 'order'; it has every_n_epochs, "),
        (SingleWeightTransfer, "every_n_steps", "SingleWeightTransfer sets every_n_steps itself"),
        (CyclicalWeightTransfer, "monitor", "CyclicalWeightTransfer has no argument 'monitor'"),
    ],
)
def test_an_argument_that_a_heuristic_has_not_or_sets_itself_is_refused(kind: Any, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        kind(**{name: "cycle"})


def test_a_heuristic_of_the_user_may_take_what_it_likes() -> None:
    class Mine(CyclicalWeightTransfer):
        def __init__(self, **kwargs: Any) -> None:
            self.mine = kwargs.pop("mine")
            super().__init__(**kwargs)

    assert Mine(every_n_epochs=1, mine=7).mine == 7


class Lazy(SmallModule):
    """Has layers that get their shape in the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(8, 1))


class Dry(Lazy):
    """Passes a batch through them before the fit."""

    def configure_model(self) -> None:
        self.network(torch.zeros(2, 3))


@pytest.mark.parametrize("sanity", [0, 1])
def test_layers_without_a_shape_are_refused_by_name(sanity: int) -> None:
    with pytest.raises(InputError, match=r"network\.0, network\.1 of Lazy would get weights only in the first batch"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), module=Lazy(), num_sanity_val_steps=sanity)
    fit(CyclicalWeightTransfer(every_n_epochs=1), module=Dry(), max_epochs=1, num_sanity_val_steps=sanity)
