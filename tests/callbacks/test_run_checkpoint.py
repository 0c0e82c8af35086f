"""RunCheckpoint, and what a resumed fit must share with an unbroken one: weights, validations, rates and logs."""

import contextlib
import gc
import os
import random
import signal
import weakref
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from pickles import PICKLES, RAN, Payload
from torch.utils.data import DataLoader, Dataset, Sampler

from lit_dist import InputError, SafetensorsCheckpointIO, newest_checkpoint, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.callbacks.termination import Termination
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.csv_rows import put_back, set_aside
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.verify import verify
from lit_dist.utils.lightning_internals import train_source
from small import SmallData, SmallModule, Tell, fit, inputs, loader, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:You're resuming from a checkpoint that ended before",
)


class Traced(SmallModule):
    """Notes each step with its rate, and each validation."""

    def __init__(self, scheduler: str = "cosine", interval: str = "epoch") -> None:
        super().__init__()
        self.scheduler, self.interval = scheduler, interval
        self.trace: list[tuple[Any, ...]] = []

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        logged_as = self.trainer.fit_loop.epoch_loop._batches_that_stepped  # the loggers' step
        self.trace.append((self.visited[-1], self.rows[-1], rate, batch_idx, logged_as))
        return loss

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.trace.append(("validation", self.trainer.current_epoch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        scheduler = {
            "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
            "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5),
        }[self.scheduler]()
        return [optimizer], [{"scheduler": scheduler, "interval": self.interval, "monitor": "val_loss"}]


class Everywhere(Callback):
    """Writes a checkpoint in every hook of a fit, and notes how much was traced by then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: list[tuple[Path, int]] = []
        for kind in ("train_epoch", "train_batch", "validation"):
            setattr(self, f"on_{kind}_start", partial(self.save, f"{kind}_start"))
        for kind in ("train_epoch", "train_batch", "validation_batch", "train"):
            setattr(self, f"on_{kind}_end", partial(self.save, f"{kind}_end"))

    def save(self, hook: str, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            path = self.folder / f"{len(self.saved):03d}_{hook}.ckpt"
            trainer.save_checkpoint(path, weights_only=False)
            self.saved.append((path, len(trainer.lightning_module.trace)))  # type: ignore[arg-type]


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "epochs": ({"every_n_epochs": 1}, {"check_val_every_n_epoch": 2}, {}),
    "two epochs, local": ({"every_n_epochs": 2, "optimizer_state": "local"}, {}, {}),
    "steps, carry": ({"every_n_steps": 3, "optimizer_state": "carry", "order": "shuffled"}, {"max_epochs": 3}, {}),
    "validation within": ({"every_n_epochs": 1}, {"val_check_interval": 0.5}, {}),
    "by steps": ({"every_n_steps": 2}, {"max_epochs": 3, "check_val_every_n_epoch": None, "val_check_interval": 4}, {}),
    "max_steps": ({"every_n_epochs": 1}, {"max_epochs": -1, "max_steps": 21}, {}),
    "plateau by epochs": ({"every_n_epochs": 1, "optimizer_state": "carry"}, {}, {"scheduler": "plateau"}),
    "schedule by steps": ({"every_n_epochs": 1}, {}, {"interval": "step"}),
}


def run(folder: Path, settings: str, *callbacks: Callback, path: Path | None = None) -> Traced:
    transfer, options, model = SETTINGS[settings]
    pl.seed_everything(0, verbose=False)
    module = Traced(**model)
    plugin = SafetensorsCheckpointIO()
    callbacks = (CyclicalWeightTransfer(**transfer), *callbacks)
    fitting = trainer(*callbacks, plugins=[plugin], default_root_dir=folder, num_sanity_val_steps=1, **options)
    fitting.fit(module, SmallData(), ckpt_path=path)
    return module


def weights(module: pl.LightningModule) -> str:
    return fingerprint(module.state_dict())[0]


@cache
def unbroken(settings: str = "epochs") -> str:
    """The weights that a fit ends with which nothing interrupts."""
    with TemporaryDirectory() as folder:
        return weights(run(Path(folder), settings))


def resumed(folder: Path, settings: str = "epochs") -> str:
    """The weights that a run ends with which is resumed from its newest checkpoint."""
    return weights(run(folder, settings, RunCheckpoint(), path=newest_checkpoint(folder)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_fit_resumes_exactly_from_a_checkpoint_of_any_hook(settings: str, tmp_path: Path) -> None:
    saves = Everywhere(tmp_path)
    whole = run(tmp_path / "unbroken", settings, saves)
    for path, traced in sorted(saves.saved, key=lambda save: save[0].stem[4:])[::5]:  # a part, of each hook some
        if settings == "plateau by epochs" and path.stem.endswith("epoch_end"):
            continue  # Lightning looks at the metric after this hook, and no checkpoint has it
        again = run(tmp_path / path.stem, settings, path=path)
        assert weights(again) == weights(whole), path.stem
        assert again.trace == whole.trace[traced:], path.stem


@pytest.mark.slow
def test_a_fit_that_was_resumed_from_a_validation_within_an_epoch_resumes_again_in_that_epoch(tmp_path: Path) -> None:
    first, second = Everywhere(tmp_path / "first"), Everywhere(tmp_path / "second")
    whole = run(tmp_path / "unbroken", "validation within", first)
    start = next(place for place, (path, _) in enumerate(first.saved) if path.stem.endswith("validation_start"))
    path, traced = first.saved[start]
    run(tmp_path / "once", "validation within", second, path=path)
    for path, later in second.saved[1:5:2]:
        again = run(tmp_path / path.stem, "validation within", path=path)
        assert again.trace == whole.trace[traced + later :], path.stem


@pytest.mark.parametrize("settings", ["two epochs, local", "steps, carry", "max_steps"])
def test_run_checkpoint_leaves_the_newest_whole_visits(settings: str, tmp_path: Path) -> None:
    run(tmp_path, settings, RunCheckpoint(keep=3))
    kept = sorted(tmp_path.glob("checkpoints/*.ckpt"))
    assert len(kept) == 3
    assert newest_checkpoint(tmp_path) == kept[-1]
    assert {weights(run(tmp_path, settings, RunCheckpoint(), path=path)) for path in kept} == {unbroken(settings)}


class Killed(Exception):
    """Stands for a kill."""


class Kill(Callback):
    """Ends the fit after so many hooks."""

    def __init__(self, hooks: int) -> None:
        self.hooks = hooks

    def count(self, trainer: pl.Trainer, *_: Any) -> None:
        self.hooks -= not trainer.sanity_checking
        if self.hooks < 0:
            raise Killed

    on_train_epoch_start = on_train_batch_start = on_train_batch_end = on_train_epoch_end = count
    on_validation_start = on_validation_batch_end = on_validation_end = count


CHAINS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    **SETTINGS,
    "accumulated": (
        {"every_n_epochs": 1, "order": "shuffled"},
        {"accumulate_grad_batches": 3, "check_val_every_n_epoch": None, "val_check_interval": 11},
        {},
    ),
    "long": ({"every_n_epochs": 1, "validation": "cycle"}, {"max_epochs": 12}, {}),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("settings", CHAINS)
def test_a_fit_may_be_interrupted_again_and_again(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, settings, CHAINS[settings])
    expected = weights(run(tmp_path / "unbroken", settings, RunCheckpoint(every_n_steps=3)))
    chance = random.Random(settings)
    for number in range(2):
        folder, module = tmp_path / str(number), None
        kills = []
        while module is None:
            kills.append(chance.randint(1, 60))
            callbacks = (RunCheckpoint(every_n_steps=3), Kill(kills[-1]))
            with contextlib.suppress(Killed):
                module = run(folder, settings, *callbacks, path=newest_checkpoint(folder))
        assert weights(module) == expected, kills
        verify(folder)


# -- without a transfer ------------------------------------------------------------------------------------------------


class Chance(Dataset[list[torch.Tensor]]):
    """Draws from every global generator and from one of its own."""

    def __init__(self) -> None:
        self.rows, self.transforms = inputs(0, 5), [np.random.default_rng(0)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(())) + self.transforms[0].random()
        return [self.rows[index] + torch.tensor([0, 0, noise])]


class Lazy(Sampler[int]):
    """Draws each index when it is asked for."""

    def __iter__(self) -> Iterator[int]:
        return iter(random.randrange(10) for _ in range(10))

    def __len__(self) -> int:
        return 10


class Drawing(Traced):
    """Draws wherever a module may, and asks for the number of steps before the fit begins."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing, self.network.noise = np.random.default_rng(0), torch.Generator()

    def on_train_start(self) -> None:
        self.late = random.Random()

    def on_after_batch_transfer(self, batch: list[torch.Tensor], dataloader_idx: int) -> list[torch.Tensor]:
        return [batch[0] + torch.rand(3) * torch.tensor([0, 0, 1])]

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = super().training_step(
            [batch[0] * torch.tensor([1, 1, np.random.beta(2, 2) + self.mixing.random() + self.late.random()])],
            batch_idx,
        )
        self.trace.append(("step", loss.item()))
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        loss = (
            self.network(batch[0] / 10).pow(2).mean() + torch.rand((), generator=self.network.noise) + random.random()
        )
        self.log("val_loss", loss)
        self.losses = [*(self.losses if batch_idx else []), loss.item()]

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if not self.trainer.sanity_checking:
            self.trace.append(("losses", *self.losses))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        steps = int(self.trainer.estimated_stepping_batches)
        return [optimizer], [
            {"scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps), "interval": "step"}
        ]


ALONE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shuffled": ({"shuffle": True}, {}),
    "own generator, within": ({"shuffle": True, "generator": torch.Generator()}, {"val_check_interval": 0.4}),
    "lazy sampler": ({"sampler": Lazy()}, {"max_epochs": -1, "max_steps": 12}),
    "workers": ({"shuffle": True, "num_workers": 2, "persistent_workers": True}, {}),
}


def alone(folder: Path, settings: str, *callbacks: Callback, path: Path | None = None, **changes: Any) -> Drawing:
    loading, options = ALONE[settings]
    pl.seed_everything(0, verbose=False)
    module = Drawing()
    options = {"max_epochs": 3, "num_sanity_val_steps": 1, **options}
    if not any(isinstance(callback, RunCheckpoint) for callback in callbacks):
        callbacks = (*callbacks, RunCheckpoint())
    fitting = trainer(*callbacks, default_root_dir=folder, **options)
    train = DataLoader(Chance(), batch_size=2, **{**loading, **changes})
    fitting.fit(module, train, DataLoader(Chance(), batch_size=3), ckpt_path=path, weights_only=True)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("settings", ALONE)
def test_a_fit_without_a_transfer_is_resumed_from_any_hook(settings: str, tmp_path: Path) -> None:
    everywhere = Everywhere(tmp_path)
    whole = alone(tmp_path / "unbroken", settings, everywhere)
    for path, traced in everywhere.saved[:: 17 if settings == "workers" else 7]:
        again = alone(tmp_path / path.stem, settings, path=path)
        assert again.trace == whole.trace[traced:], path.stem
        assert weights(again) == weights(whole), path.stem


def test_the_number_of_workers_does_not_change_a_fit(tmp_path: Path) -> None:
    some, none = alone(tmp_path, "workers"), alone(tmp_path, "workers", num_workers=0, persistent_workers=False)
    assert weights(some) == weights(none)


def test_a_run_without_a_seed_is_resumed_with_the_one_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(folder: Path, initial: int, path: Path | None = None) -> str:
        torch.manual_seed(0)
        module = Traced()
        torch.manual_seed(initial)
        monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        fitting = trainer(RunCheckpoint(keep=9), default_root_dir=folder, max_epochs=3)
        fitting.fit(module, loader(0, 4), loader(0, 2, shuffle=False), ckpt_path=path, weights_only=True)
        return weights(module)

    whole = fit(tmp_path, 1)
    assert fit(tmp_path / "other", 2) != whole
    kept = sorted((tmp_path / "checkpoints").glob("*"))
    assert len(kept) == 3
    assert {fit(tmp_path / path.stem, 2, path) for path in kept} == {whole}


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_loaders_that_are_drawn_from_at_once_are_warned_of(tmp_path: Path) -> None:
    class Both(SmallModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch["a"], batch_idx)

    def fit(path: Path | None = None) -> None:
        fitting = trainer(RunCheckpoint(), default_root_dir=tmp_path, max_epochs=2)
        fitting.fit(Both(), {"a": loader(0, 2), "b": loader(1, 2)}, ckpt_path=path, weights_only=True)

    fit()
    with pytest.warns(UserWarning, match="several loaders that are drawn from at once"):
        fit(min(tmp_path.glob("checkpoints/*")))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.parametrize("how", ["loader", "datamodule", "module"])
def test_the_source_of_a_fits_loader_is_left_as_it_was(how: str, tmp_path: Path) -> None:
    train, module, data = loader(0, 2), SmallModule(), pl.LightningDataModule()
    source: Any = {"datamodule": data, "module": module}.get(how)
    if source is not None:
        source.train_dataloader = lambda: train
    fitting = trainer(RunCheckpoint(), default_root_dir=tmp_path, max_epochs=1)
    fitting.fit(module, train if how == "loader" else None, datamodule=data if how == "datamodule" else None)
    assert fitting.train_dataloader is train
    assert train_source(fitting) is (source or train)
    assert source is None or source.train_dataloader() is train


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [{"every_n_epochs": 1}, {"every_n_steps": 2}])
def test_a_csv_log_has_each_row_once(transfer: dict[str, int], tmp_path: Path) -> None:
    def fit(version: str, path: Path | None = None, rows: int = 0) -> str:
        pl.seed_everything(0, verbose=False)
        logger = CSVLogger(tmp_path, name="", version=version)
        if path is not None:
            set_aside(tmp_path / version)
            put_back(logger, rows)
        callbacks = [CyclicalWeightTransfer(**transfer), RunCheckpoint(every_n_steps=1, keep=100)]  # type: ignore[arg-type]
        fitting = trainer(*callbacks, logger=logger, log_every_n_steps=1, max_epochs=3, enable_checkpointing=True)
        fitting.fit(Traced(), SmallData(), ckpt_path=path, weights_only=True)
        return (tmp_path / version / "metrics.csv").read_text()

    whole = fit("whole")
    for path in sorted((tmp_path / "whole" / "checkpoints").glob("*"))[::3]:
        rows = read_checkpoint(path)["logs"]["rows"][0]
        (tmp_path / path.stem).mkdir()
        (tmp_path / path.stem / "metrics.csv").write_text(whole)  # it had continued, and was killed after later rows
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lightning.fabric.loggers.csv_logs.rank_zero_warn", lambda *_: None)
            assert fit(path.stem, path, rows) == whole, path.stem


def test_rows_outlast_a_kill_while_they_are_put_back(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("a,step\n1.0,0\n2.0,1\n")
    set_aside(tmp_path)
    (tmp_path / "metrics.csv").write_text("a,step\n")  # killed here
    set_aside(tmp_path)
    (tmp_path / "metrics.csv").unlink()
    with pytest.warns(UserWarning, match="exists and is not empty"):
        put_back(CSVLogger(tmp_path.parent, name="", version=tmp_path.name), 2)
    assert (tmp_path / "metrics.csv").read_text().split() == ["a,step", "1.0,0", "2.0,1"]


# -- ends --------------------------------------------------------------------------------------------------------------


HOOKS = {
    "on_train_batch_start": (3, 4, 10, 14),
    "on_train_batch_end": (3, 4, 10, 14),
    "on_train_epoch_start": (4, 10),
    "on_train_epoch_end": (4, 10),
    "on_validation_start": (10,),
    "on_validation_batch_end": (10,),
}
"""When each is called, of these steps: in the first visit, between two, before a validation, and after it."""


@pytest.mark.parametrize(("hook", "step"), [(hook, step) for hook, steps in HOOKS.items() for step in steps])
def test_sigterm_saves_the_state_and_ends_the_fit(hook: str, step: int, tmp_path: Path) -> None:
    with pytest.raises(SIGTERMException):
        run(tmp_path, "epochs", Tell(hook, step), RunCheckpoint())
    path = newest_checkpoint(tmp_path)
    assert path is not None
    assert int(path.stem.removeprefix("step_")) in (step, step + 1)
    assert resumed(tmp_path) == unbroken()
    assert getattr(signal.getsignal(signal.SIGTERM), "__func__", None) is not Termination._note


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of SLURM, and the file in which its ``scontrol`` notes what it is told."""
    names = {"NTASKS": "1", "JOB_ID": "77", "JOB_NAME": "train", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "told"


@pytest.mark.parametrize("transfer", [True, False])
def test_slurms_signal_saves_the_state_in_the_runs_folder_and_requeues_the_job(
    transfer: bool, slurm: Path, tmp_path: Path
) -> None:
    def go(*callbacks: Callback, path: Path | None = None) -> Traced:
        fit, settings = (run, "epochs") if transfer else (alone, "shuffled")
        return fit(tmp_path / "run", settings, *callbacks, path=path)

    expected = weights(go())
    for left in tmp_path.glob("run/checkpoints/*"):
        left.unlink()
    with pytest.raises(SIGTERMException):
        go(Tell("on_train_batch_start", 7, signal.SIGUSR1), RunCheckpoint())
    assert slurm.read_text() == "requeue 77\n"
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    assert weights(go(RunCheckpoint(), path=newest_checkpoint(tmp_path / "run"))) == expected


def test_a_job_that_cannot_be_requeued_is_said(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    (tmp_path / "bin" / "scontrol").unlink()
    with pytest.raises(SIGTERMException), pytest.warns(UserWarning, match="state is saved, but SLURM's job 5_"):
        run(tmp_path, "epochs", Tell("on_train_batch_start", 7, signal.SIGUSR1), RunCheckpoint())
    assert newest_checkpoint(tmp_path) is not None


def test_a_checkpoint_of_slurm_that_nobody_named_is_refused(slurm: Path, tmp_path: Path) -> None:
    run(tmp_path / "other", "epochs", RunCheckpoint())
    newest = newest_checkpoint(tmp_path / "other")
    assert newest is not None
    newest.rename(tmp_path / "hpc_ckpt_1.ckpt")
    with pytest.raises(InputError, match=r"hpc_ckpt_1.ckpt and would begin with it, whichever run"):
        run(tmp_path, "epochs", RunCheckpoint())


def recorded(folder: Path) -> list[tuple[int, str, dict[str, float | None]]]:
    return [(entry.visit, entry.sha256_out, entry.metrics) for entry in read_entries(folder / "ledger.jsonl")]


@pytest.mark.parametrize("hook", ["on_validation_start", "on_validation_batch_end"])
def test_the_validation_of_a_visit_is_on_record_also_of_a_fit_that_was_told_to_end_in_it(
    hook: str, tmp_path: Path
) -> None:
    run(tmp_path / "unbroken", "epochs")
    with pytest.raises(SIGTERMException):
        run(tmp_path, "epochs", Tell(hook, 10), RunCheckpoint())
    assert recorded(tmp_path) == recorded(tmp_path / "unbroken")[:1]
    assert "belongs to it" in verify(tmp_path)
    with pytest.raises(Killed):  # and that fails in it again
        run(tmp_path, "epochs", Kill(0), RunCheckpoint(), path=newest_checkpoint(tmp_path))
    assert recorded(tmp_path) == recorded(tmp_path / "unbroken")[:1]
    run(tmp_path, "epochs", RunCheckpoint(), path=newest_checkpoint(tmp_path))
    assert "val_loss" in recorded(tmp_path)[1][2]
    assert recorded(tmp_path) == recorded(tmp_path / "unbroken")


@pytest.mark.parametrize("kept", [[], [RunCheckpoint]], ids=["no checkpoint", "a checkpoint from before"])
def test_a_visit_that_no_checkpoint_has_is_on_record_if_the_validation_after_it_fails(
    kept: list[Any], tmp_path: Path
) -> None:
    class Fails(Callback):
        def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            if not trainer.sanity_checking:
                raise Killed

    with pytest.raises(Killed):
        run(tmp_path, "epochs", Fails(), *(kind() for kind in kept))
    assert [visit for visit, _, _ in recorded(tmp_path)] == [0, 1]


def test_a_fit_leaves_neither_itself_nor_a_signal_handler_behind() -> None:
    before = signal.getsignal(signal.SIGTERM)
    fitted = weakref.ref(fit(CyclicalWeightTransfer(every_n_epochs=1), RunCheckpoint(), max_epochs=2))
    assert signal.getsignal(signal.SIGTERM) == before
    gc.collect()
    assert fitted() is None


def test_a_run_that_ended_by_itself_is_not_resumed(tmp_path: Path) -> None:
    stop = lambda: EarlyStopping("val_loss", patience=1, min_delta=10.0)  # noqa: E731
    stopped = run(tmp_path, "two epochs, local", stop(), RunCheckpoint())
    again = run(tmp_path, "two epochs, local", stop(), RunCheckpoint(), path=newest_checkpoint(tmp_path))
    assert again.trace == []
    assert weights(again) == weights(stopped)


def test_a_run_that_ran_out_of_time_is_resumed(tmp_path: Path) -> None:
    class Out(Timer):
        def time_remaining(self, stage: str = "train") -> float:
            return -1.0 if self._left == 0 else 1.0

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            self._left -= 1
            trainer.should_stop = self._left <= 0

    def timer(left: int) -> Out:
        out = Out(duration={"days": 1})
        out._left = left
        return out

    run(tmp_path, "epochs", timer(7), RunCheckpoint())
    again = run(tmp_path, "epochs", timer(1000), RunCheckpoint(), path=newest_checkpoint(tmp_path))
    assert weights(again) == unbroken()


def test_a_finished_run_can_be_made_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "short", (SETTINGS["epochs"][0], {"max_epochs": 3, "check_val_every_n_epoch": 2}, {}))
    run(tmp_path, "short", RunCheckpoint())
    assert resumed(tmp_path) == unbroken()


@pytest.mark.parametrize(("step", "first"), [(10, 2), (14, 3)], ids=["between two visits", "within a visit"])
def test_the_state_of_another_run_is_a_new_beginning_which_the_ledger_names(
    step: int, first: int, tmp_path: Path
) -> None:
    whole = run(tmp_path / "other", "epochs", RunCheckpoint(every_n_steps=2, keep=99))
    path = tmp_path / "other" / "checkpoints" / f"step_{step:08d}.ckpt"
    new = run(tmp_path / "new", "epochs", RunCheckpoint(every_n_steps=2, keep=99), path=path)
    assert weights(new) == weights(whole)
    others, lines = (read_entries(tmp_path / name / "ledger.jsonl") for name in ("other", "new"))
    origin = f"{path.name} {fingerprint(read_checkpoint(path)['state_dict'])[0]}"
    assert [(line.visit, line.origin) for line in lines] == [(visit, origin) for visit in range(first, 6)]
    assert lines[0].run != others[0].run
    assert {line.origin for line in others} == {""}
    assert '"origin"' not in (tmp_path / "other" / "ledger.jsonl").read_text()
    assert "the chain is whole" in verify(tmp_path / "new")
    late = sorted((tmp_path / "new" / "checkpoints").glob("*"))[-3]
    run(tmp_path / "new", "epochs", RunCheckpoint(), path=late)
    assert read_entries(tmp_path / "new" / "ledger.jsonl") == lines, "resumed, it is the same run"


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    run(tmp_path, "epochs", RunCheckpoint())
    old, new = sorted(tmp_path.glob("checkpoints/*"))
    evil = tmp_path / "checkpoints/step_00000099.ckpt"
    PICKLES["zip"]({"state_dict": Payload()}, evil)
    with pytest.warns(UserWarning, match=f"{evil.name} is a pickle.*it is passed over"):
        assert newest_checkpoint(tmp_path) == new
    assert not RAN.exists()
    evil.unlink()
    new.write_bytes(new.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"{new.name} is damaged.*passed over"):
        assert newest_checkpoint(tmp_path) == old
    old.write_bytes(b"")
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(InputError, match=new.name):
        newest_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_last_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, written = os.pwrite, []

    def full(descriptor: int, content: bytes, offset: int) -> int:
        written.append(len(content))
        if len(written) > 30:
            raise OSError(28, "No space left on device")
        return whole(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match=r"step_.*No space left on device; free some space in .*checkpoints"):
        run(tmp_path, "epochs", RunCheckpoint())
    monkeypatch.undo()
    assert not list(tmp_path.glob("checkpoints/.*"))
    assert resumed(tmp_path) == unbroken()


def test_it_wants_checkpoints_without_pickle() -> None:
    with pytest.raises(InputError, match=r"plugins=\[SafetensorsCheckpointIO"):
        trainer(RunCheckpoint(), plugins=[]).fit(SmallModule(), SmallData())


@pytest.mark.parametrize("arguments", [{"keep": 0}, {"every_n_steps": 0}, {"every_n_steps": -1}])
def test_impossible_arguments_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="count from 1"):
        RunCheckpoint(**arguments)


def test_the_best_model_so_far_is_known_after_a_resumption(tmp_path: Path) -> None:
    best = lambda: ModelCheckpoint(tmp_path / "best", monitor="val_loss", mode="max")  # noqa: E731
    run(tmp_path, "epochs", best(), RunCheckpoint(keep=9))
    first = sorted(tmp_path.glob("checkpoints/*"))[-2]
    model = best()
    run(tmp_path, "epochs", model, RunCheckpoint(), path=first)
    assert Path(model.best_model_path).exists()
    assert len(list((tmp_path / "best").glob("*"))) == 1
