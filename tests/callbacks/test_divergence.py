"""A loss or weights that become NaN or infinite at one site."""

import math
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lit_dist import InputError, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.callbacks.divergence import Divergence
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.provenance.audit import audit
from lit_dist.provenance.ledger import read_entries
from lit_dist.utils.finite_tensors import not_finite
from small import SmallData, SmallModule, fit, ledger, trainer

SKIPPED = pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`:UserWarning")


class Bad(SmallModule):
    """Its loss is not finite from some batch of a site on."""

    def __init__(self, site: str = "b", batch: int = 2, value: float = math.nan) -> None:
        super().__init__()
        self.site, self.batch, self.value = site, batch, value

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * self.value if self.visited[-1] == self.site and batch_idx >= self.batch else loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("interval", [{"every_n_epochs": 1}, {"every_n_steps": 4}])
def test_the_run_ends_at_the_step_and_says_where(interval: dict[str, int], value: float) -> None:
    module = Bad(batch=6 if "every_n_steps" in interval else 2, value=value)
    with pytest.raises(InputError, match=r"the loss is NaN or infinite at site 'b' \(visit 1, step 7 of the run\)"):
        fit(CyclicalWeightTransfer(**interval), module=module)  # type: ignore[arg-type]
    assert module.visited == "aaaabbb"
    first, second = ledger()
    assert (second["visit"], second["outcome"], second["steps"]) == (1, "diverged", 3)
    assert second["sha256_in"] == second["sha256_out"] == first["sha256_out"]
    audit(read_entries(Path("ledger.jsonl")))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_nothing_good_is_overwritten_and_the_run_resumes_from_it(tmp_path: Path) -> None:
    def callbacks() -> list[Callback]:
        return [
            CyclicalWeightTransfer(every_n_epochs=1),
            ModelCheckpoint(tmp_path / "models", save_last=True, monitor="train_loss", every_n_train_steps=1),
            RunCheckpoint(),
        ]

    pl.seed_everything(0, verbose=False)
    with pytest.raises(InputError, match="diverged"):
        fit(*callbacks(), module=Bad())
    model = read_checkpoint(tmp_path / "models" / "last.ckpt")
    assert not_finite(model["state_dict"]) is None
    kept = sorted(Path("checkpoints").glob("step_*.ckpt"))
    assert [path.stem for path in kept] == ["step_00000004"]

    pl.seed_everything(0, verbose=False)
    module = SmallModule()
    trainer(*callbacks()).fit(module, SmallData(), ckpt_path=kept[0], weights_only=True)
    assert [line["outcome"] for line in ledger()] == ["trained", "diverged", *["trained"] * 5]
    audit(read_entries(Path("ledger.jsonl")))
    Path("ledger.jsonl").unlink()
    assert fingerprint(module.state_dict()) == fingerprint(fit(CyclicalWeightTransfer(every_n_epochs=1)).state_dict())


@SKIPPED
@pytest.mark.parametrize("policy", ["reset", "carry", "local"])
@pytest.mark.parametrize("interval", [{"every_n_epochs": 1}, {"every_n_epochs": 2}, {"every_n_steps": 4}])
def test_a_skipped_visit_changes_nothing(interval: dict[str, int], policy: Any) -> None:
    transfer = CyclicalWeightTransfer(**interval, optimizer_state=policy, on_divergence="skip")  # type: ignore[arg-type]
    module = Bad(batch=0)
    with pytest.warns(UserWarning, match="at site 'b' .* the visit is skipped, and hands on what came in"):
        fit(transfer, module=module, max_epochs=6)
    lines = ledger()
    assert [line["outcome"] for line in lines] == ["skipped" if line["site"] == "b" else "trained" for line in lines]
    assert all(line["sha256_in"] == line["sha256_out"] for line in lines if line["site"] == "b")
    assert all(line["sha256_in"] != line["sha256_out"] for line in lines if line["site"] != "b")
    audit(read_entries(Path("ledger.jsonl")))
    assert not_finite(module.state_dict()) is None
    assert "training_step" not in vars(module), "training continues"


@pytest.mark.slow
@SKIPPED
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used")
def test_a_run_resumed_in_a_skipped_visit_equals_the_unbroken_one(tmp_path: Path) -> None:
    def run(*callbacks: Callback, path: Path | None = None) -> str:
        pl.seed_everything(0, verbose=False)
        module = Bad(batch=2)
        transfer = CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="carry", on_divergence="skip")
        fitting = trainer(transfer, *callbacks)
        with pytest.warns(UserWarning, match="the visit is skipped"):
            fitting.fit(module, SmallData(), ckpt_path=path, weights_only=True)
        return fingerprint(module.state_dict())[0]

    states = tmp_path / "states"
    unbroken = run(ModelCheckpoint(states, filename="{step}", every_n_train_steps=1, save_top_k=-1))
    assert {run(path=states / f"step={step}.ckpt") for step in (5, 6, 7, 8, 9, 10, 11)} == {unbroken}


class Rows(Logger):
    """Keeps what each step has logged."""

    name = version = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.rows[step or 0] = {name: value for name, value in metrics.items() if not math.isnan(value)}

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


@SKIPPED
@pytest.mark.filterwarnings("ignore:.*the visit is skipped")
def test_a_run_resumed_in_a_skipped_visit_logs_what_the_unbroken_one_does() -> None:
    def run(folder: str, path: Path | None = None) -> tuple[dict[int, dict[str, float]], list[Any]]:
        Path(folder).mkdir(exist_ok=True)
        logger, module = Rows(), Bad(batch=2)
        transfer = CyclicalWeightTransfer(every_n_epochs=1, on_divergence="skip")
        settings = {"logger": logger, "log_every_n_steps": 1, "default_root_dir": folder, "max_epochs": 3}
        trainer(transfer, RunCheckpoint(every_n_steps=1, keep=100), **settings).fit(module, SmallData(), ckpt_path=path)
        return logger.rows, [(line["outcome"], line["metrics"]) for line in ledger(Path(folder))]

    rows, lines = run("whole")
    shutil.copytree("whole/checkpoints", "resumed/checkpoints")
    shutil.copy("whole/ledger.jsonl", "resumed")
    text = Path("whole/ledger.jsonl").read_text().splitlines(keepends=True)
    Path("resumed/ledger.jsonl").write_text(text[0])
    again, resumed = run("resumed", Path("resumed/checkpoints/step_00000008.ckpt"))
    assert resumed == lines
    assert again == {step: row for step, row in rows.items() if step >= 8}
    assert "train_loss" not in rows[8]
    assert rows[8]["site"] == 1


def test_weights_that_the_last_step_spoils_are_not_handed_on() -> None:
    class Spoil(Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step == 4:
                next(module.parameters()).data[0] = math.inf

    with pytest.raises(InputError, match=r"the tensor 'network.0.weight' is NaN or infinite at site 'a' \(visit 0"):
        fit(Spoil(), CyclicalWeightTransfer(every_n_epochs=1))


def test_a_loss_is_not_looked_at_in_every_step_where_that_costs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    whole = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: (looks.append(1), whole(tensor))[1])
    run = trainer(log_every_n_steps=10)
    monkeypatch.setattr(type(run.strategy), "root_device", torch.device("meta"))
    watch = Divergence("stop")
    for step in range(20):
        watch.watch({"loss": torch.tensor(0.5)})
        assert watch.look(run, step, visit_ends=False) is None
    assert len(looks) == 2


@pytest.mark.parametrize("policy", ["Skip", "", None])
def test_an_unknown_policy_is_refused(policy: Any) -> None:
    with pytest.raises(InputError, match=r"on_divergence=.* is not one of stop, skip"):
        CyclicalWeightTransfer(every_n_epochs=1, on_divergence=policy)
