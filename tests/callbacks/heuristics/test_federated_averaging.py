"""Federated averaging, beside a few lines of plain PyTorch that do the same."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    Callback,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    ModelCheckpoint,
)
from torch import Tensor, nn

from lit_dist import InputError, SafetensorsCheckpointIO, VisitCallback, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, FederatedAveraging, FedProx, RunCheckpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.provenance.verify import verify
from small import SIZES, SmallData, SmallModule, fit, ledger, loaders, trainer


class Plain(SmallModule):
    """Nothing of it is drawn at random, and its optimizer has a momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def made(kind: type[SmallModule] = Plain) -> SmallModule:
    pl.seed_everything(0, verbose=False)
    return kind()


def plain_loop(module: SmallModule, rounds: int, passes: int, equal: bool) -> dict[str, Tensor]:
    """Federated averaging in ten lines."""
    weights = deepcopy(module.state_dict())
    for _ in range(rounds):
        sums: dict[str, Any] = dict.fromkeys(weights, 0)
        for site, size in SIZES.items():
            module.load_state_dict(weights)
            optimizer = module.configure_optimizers()
            for (inputs,) in [batch for _ in range(passes) for batch in loaders(shuffle=False)[site]]:
                optimizer.zero_grad()
                module.network(inputs / 10).pow(2).mean().backward()
                optimizer.step()
            n = 1 if equal else size * 2 * passes
            sums = {name: sums[name] + n * value.double() for name, value in module.state_dict().items()}
        total = len(SIZES) if equal else sum(SIZES.values()) * 2 * passes
        steps = weights["network.1.num_batches_tracked"] + SIZES["c"] * passes  # of the last site
        weights = {name: (value / total).to(weights[name].dtype) for name, value in sums.items()}
        weights["network.1.num_batches_tracked"] = steps
    return weights


@pytest.mark.parametrize(("passes", "weighting"), [(1, "images"), (2, "images"), (1, "equal")])
def test_it_equals_a_plain_loop_bit_for_bit(passes: int, weighting: Any) -> None:
    averaging = FederatedAveraging(every_n_epochs=passes, weighting=weighting)
    module = fit(averaging, data=SmallData(shuffle=False), module=made(), max_epochs=9 * passes)
    assert fingerprint(module.state_dict()) == fingerprint(plain_loop(made(), 3, passes, weighting == "equal"))
    assert [line["weights"] for line in ledger() if "kind" in line] == [
        [1.0, 1.0, 1.0] if weighting == "equal" else [8.0 * passes, 12.0 * passes, 4.0 * passes]
    ] * 3


def test_a_rounds_visits_begin_with_the_last_merge_and_its_schedule() -> None:
    class Scheduled(SmallModule):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.08)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    fit(FederatedAveraging(every_n_epochs=1), module=made(Scheduled))
    visits = [line for line in ledger() if "visit" in line]
    merges = [line["sha256_out"] for line in ledger() if "kind" in line]
    assert {line["sha256_in"] for line in visits[3:]} == {merges[0]}
    assert {line["sha256_in"] for line in visits[:3]} == {visits[0]["sha256_in"]}
    assert [line["learning_rates_start"] for line in visits] == [[0.08]] * 3 + [[0.02]] * 3  # two steps of site c
    assert "6 visits and 2 merges" in verify(".")


def hashes(*settings: dict[str, Any], **kwargs: Any) -> list[list[str]]:
    """What each line of runs with these settings ended with."""
    found = []
    for number, each in enumerate(settings):
        kind = each.pop("kind", FederatedAveraging)
        folder = f"run_{number}"
        fit(kind(**{"every_n_epochs": 1, **each}), data=SmallData([4, 6, 2, 3]), default_root_dir=folder, **kwargs)
        assert "chain is whole" in verify(folder)
        found.append([line["sha256_out"] for line in ledger(Path(folder))])
    return found


def test_one_ring_is_cyclical_transfer() -> None:
    ring, cyclical = hashes({"ring": 4}, {"kind": CyclicalWeightTransfer, "validation": "cycle"}, max_epochs=8)
    assert ring == cyclical


def test_cycles_come_first_or_rounds_do() -> None:
    settings: list[dict[str, Any]] = [{"kind": CyclicalWeightTransfer}, {"cycles_first": 1}, {"rounds": 1}, {}]
    cyclical, cyclic_first, averaged_first, averaged = hashes(*settings, max_epochs=8)
    assert cyclic_first[:4] == cyclical[:4]
    assert len(cyclic_first) == len(averaged_first) == 9
    assert averaged_first[:5] == averaged[:5]
    lines = ledger(Path("run_1"))
    assert {line["sha256_in"] for line in lines[4:8]} == {cyclical[3]}
    assert lines[8]["weights"] == [8.0, 12.0, 4.0, 6.0]
    lines = ledger(Path("run_2"))
    assert [line["sha256_in"] for line in lines[5:]] == averaged_first[4:8]


@pytest.mark.slow
def test_rings_are_merged_by_what_each_has_trained_on_and_end_the_same_when_killed() -> None:
    def ring(folder: str, killed_at: int | None = None) -> list[dict[str, Any]]:
        Path(folder).mkdir(exist_ok=True)
        callbacks = [FederatedAveraging(every_n_epochs=1, ring=2, baton_dir="batons"), Travels(), RunCheckpoint()]
        kept = newest_checkpoint(folder)
        trainer(*callbacks, KillAt(killed_at), default_root_dir=folder, max_epochs=8).fit(
            made(SmallModule), SmallData([4, 6, 2, 3]), ckpt_path=kept
        )
        assert "8 visits and 2 merges" in verify(folder)
        return ledger(Path(folder))

    lines = ring("whole")
    assert [line["weights"] for line in lines if "kind" in line] == [[20.0, 10.0]] * 2
    assert [line["sha256_in"] for line in lines[:4]] == [
        lines[0]["sha256_in"],
        lines[0]["sha256_out"],
        lines[0]["sha256_in"],
        lines[2]["sha256_out"],
    ]
    for step in (5, 11, 13, 16, 22):
        with pytest.raises(Killed):
            ring(f"killed_{step}", killed_at=step)
        again = ring(f"killed_{step}")
        assert [line["sha256_out"] for line in again] == [line["sha256_out"] for line in lines]


class Killed(Exception):
    """Ends a fit as a kill does."""


class KillAt(Callback):
    """Kills a fit at one of its steps."""

    takes_part = False

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


class Travels(VisitCallback):
    """Has numbers that travel, and looks at what it finds after a merge."""

    def begin_run(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.travelling = {"visits": 0, "mean": 0.0, "tensor": torch.zeros(2)}

    def on_visit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Any) -> None:
        self.staying["visits"] = self.staying.get("visits", 0) + 1
        self.travelling["visits"] += 1
        self.travelling["mean"] += float(visit.number)
        self.travelling["tensor"] = self.travelling["tensor"] + visit.number

    def on_cycle_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Any) -> None:
        with torch.no_grad():
            pl_module.network[0].bias.add_(self.travelling["mean"] / 100)  # type: ignore[union-attr, operator]


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs, local": ({"every_n_epochs": 1, "optimizer_state": "local"}, {}),
    "steps": ({"every_n_steps": 3}, {"max_epochs": 2}),
    "accumulated": ({"every_n_steps": 2, "weighting": "equal"}, {"max_epochs": 2, "accumulate_grad_batches": 2}),
}


def run(folder: str, case: str, killed_at: int | None = None) -> tuple[str, list[Any], Any]:
    averaging, settings = SETTINGS[case]
    callbacks = [FederatedAveraging(**averaging), Travels(), FedProx(0.1), RunCheckpoint(), KillAt(killed_at)]
    Path(folder).mkdir(exist_ok=True)
    kept, module = newest_checkpoint(folder), made(SmallModule)
    trainer(*callbacks, default_root_dir=folder, gradient_clip_val=0.5, **settings).fit(
        module, SmallData(), ckpt_path=kept
    )
    lines = [(line.get("visit"), line["sha256_out"], line.get("weights")) for line in ledger(Path(folder))]
    return fingerprint(module.state_dict())[0], lines, callbacks[1].state_dict()["travelling"]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("case", SETTINGS)
def test_a_run_that_is_killed_between_any_two_visits_ends_the_same(case: str) -> None:
    whole = run("whole", case)
    ends = [line["steps"] for line in ledger(Path("whole")) if "visit" in line]
    for visit in range(1, 6):
        folder = f"killed_{visit}"
        with pytest.raises(Killed):
            run(folder, case, killed_at=sum(ends[:visit]) + 1)
        again = run(folder, case)
        assert again[:2] == whole[:2]
        assert fingerprint(again[2]) == fingerprint(whole[2])
        assert (again[2]["visits"], again[2]["mean"]) == (whole[2]["visits"], whole[2]["mean"])
        assert "chain is whole" in verify(folder)


def test_what_travels_is_merged_by_the_same_weights_before_the_cycle_ends() -> None:
    callback = Travels()
    fit(FederatedAveraging(every_n_epochs=1), callback, max_epochs=3)
    mean = (8 * 0 + 12 * 1 + 4 * 2) / 24
    assert callback.travelling["visits"] == 1
    assert callback.travelling["mean"] == mean
    assert callback.travelling["tensor"].tolist() == [torch.tensor(mean).item()] * 2
    with pytest.raises(InputError, match="outside any visit"):
        assert callback.staying


def test_what_travels_and_has_no_mean_is_refused() -> None:
    class Names(VisitCallback):
        def begin_run(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.travelling = {"site": ""}

        def on_visit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Any) -> None:
            self.travelling["site"] = visit.site

    with pytest.raises(InputError, match=r"Names.*/site differs between the visits that are merged"):
        fit(FederatedAveraging(every_n_epochs=1), Names())


class Spoiled(SmallModule):
    """Diverges at its second site, in its second round."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * torch.nan if self.trainer.current_epoch == 4 else loss


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_visit_that_is_skipped_is_left_out_of_both_sums() -> None:
    with pytest.warns(UserWarning, match="the visit is skipped"):
        fit(FederatedAveraging(every_n_epochs=1, on_divergence="skip", baton_dir="batons"), module=made(Spoiled))
    lines = ledger()
    assert lines[-1]["visits"] == [3, 5]
    assert lines[-1]["weights"] == [8.0, 4.0]
    a, c = (read_checkpoint(f"batons/visit_00000{visit}.weights")["state_dict"] for visit in (3, 5))
    mean = {
        name: ((8 * value.double() + 4 * c[name].double()) / 12).float() if value.is_floating_point() else c[name]
        for name, value in a.items()
    }
    assert fingerprint(mean)[0] == lines[-1]["sha256_out"]
    assert "visit 4 at 'b' (skipped)" in verify(".")


def test_checkpoints_and_validation_have_the_mean_and_no_sites_own_weights() -> None:
    seen: list[str] = []

    class Look(Callback):
        takes_part = False

        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append(fingerprint(pl_module.state_dict())[0])

    best = ModelCheckpoint(dirpath="best", monitor="val_loss", save_last=True, enable_version_counter=False)
    fit(FederatedAveraging(every_n_epochs=1), best, Look(), plugins=[SafetensorsCheckpointIO()])
    merges = [line["sha256_out"] for line in ledger() if "kind" in line]
    assert seen == merges
    for path in (best.best_model_path, best.last_model_path):
        assert fingerprint(read_checkpoint(path)["state_dict"])[0] in merges


def test_a_fit_that_ends_within_a_round_leaves_the_last_merge_and_is_resumed() -> None:
    with pytest.warns(UserWarning, match="ended within a round|in the middle of a cycle"):
        module = fit(FederatedAveraging(every_n_epochs=1), RunCheckpoint(), module=made(SmallModule), max_epochs=4)
    lines = ledger()
    assert fingerprint(module.state_dict())[0] == next(line["sha256_out"] for line in lines if "kind" in line)
    verify(".")
    resumed = made(SmallModule)
    trainer(FederatedAveraging(every_n_epochs=1), RunCheckpoint()).fit(
        resumed, SmallData(), ckpt_path=newest_checkpoint(".")
    )
    assert "2 merges" in verify(".")
    whole = fit(FederatedAveraging(every_n_epochs=1), module=made(SmallModule), default_root_dir="whole")
    assert fingerprint(resumed.state_dict()) == fingerprint(whole.state_dict())


@pytest.mark.filterwarnings("ignore:.*ended within a round", "ignore:.*max_steps")
def test_a_fit_that_ends_within_a_visit_has_the_last_merge_however_often_it_is_fitted() -> None:
    """With what travels: of the ring's first visit the callback has seen the end, and the merge has not."""
    settings: dict[str, Any] = {"every_n_epochs": 1, "ring": 2}
    again, travels, module = made(SmallModule), Travels(), made(SmallModule)
    data = SmallData([4, 6, 2, 3])
    first = trainer(FederatedAveraging(**settings), travels, RunCheckpoint(), max_epochs=8, max_steps=22)
    first.fit(module, data)
    merge = next(line["sha256_out"] for line in ledger() if "kind" in line)
    seen = [fingerprint(module.state_dict())[0], travels.travelling["visits"]]
    first.fit(module, data)
    seen += [fingerprint(module.state_dict())[0], travels.travelling["visits"]]
    travels = Travels()
    trainer(FederatedAveraging(**settings), travels, RunCheckpoint(), max_epochs=8, max_steps=22).fit(
        again, data, ckpt_path=newest_checkpoint(".")
    )
    seen += [fingerprint(again.state_dict())[0], travels.travelling["visits"]]
    assert seen == [merge, 2] * 3


@pytest.mark.filterwarnings("ignore:.*ended within a round", "ignore:.*in the middle of a cycle")
def test_a_fit_with_nothing_left_to_train_loses_nothing_of_a_visit_that_is_made_longer() -> None:
    def longer(*lengths: int) -> str:
        made_longer, module = trainer(FederatedAveraging(every_n_epochs=2), max_epochs=1), made()
        for epochs in lengths:
            made_longer.fit_loop.max_epochs = epochs
            made_longer.fit(module, SmallData())
        Path("ledger.jsonl").unlink()
        return fingerprint(module.state_dict())[0]

    assert longer(1, 1, 6) == longer(1, 6)


def test_a_merge_that_is_not_finite_is_named_with_what_it_was_made_of() -> None:
    class Spoils(VisitCallback):
        def on_cycle_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Any) -> None:
            with torch.no_grad():
                pl_module.network[3].bias.fill_(torch.inf)  # type: ignore[union-attr, operator]

    told = r"the merge that ends cycle 0, of the weights of visit 0 at 'a', .*at 'c', .* infinity in 'network\.3\.bias'"
    with pytest.raises(InputError, match=told):
        fit(FederatedAveraging(every_n_epochs=1), Spoils())
    assert [line["visit"] for line in ledger()] == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`", "ignore:.*the visit is skipped")
def test_a_round_in_which_nothing_was_trained_hands_on_what_it_began_with() -> None:
    class Lost(SmallModule):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * torch.nan

    class Shifts(VisitCallback):
        def on_cycle_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Any) -> None:
            next(pl_module.parameters()).data.add_(1)

    fit(FederatedAveraging(every_n_epochs=1, on_divergence="skip"), Shifts(), module=made(Lost), max_epochs=3)
    lines = ledger()
    assert (lines[-1]["visits"], lines[-1]["sha256_out"]) == ([], lines[0]["sha256_in"])
    assert "3 visits and 1 merges" in verify(".")


@pytest.mark.filterwarnings("ignore:.*complex")
def test_complex_numbers_are_averaged_and_resumed() -> None:
    class Waves(SmallModule):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("wave", torch.zeros(2, dtype=torch.complex64))
            self.register_buffer("wide", torch.zeros(2, dtype=torch.complex128))

        def on_train_batch_end(self, *_: Any) -> None:
            self.wave += 1j  # type: ignore[operator]
            self.wide += 1 / 3 + 1j  # type: ignore[operator]

    def run(folder: str, killed_at: int | None = None) -> str:
        Path(folder).mkdir(exist_ok=True)
        module, kept = made(Waves), newest_checkpoint(folder)
        callbacks = [FederatedAveraging(every_n_epochs=1), RunCheckpoint(), KillAt(killed_at)]
        trainer(*callbacks, default_root_dir=folder).fit(module, SmallData(), ckpt_path=kept)
        assert module.wave.tolist() == [pytest.approx(sum(n * (n + n) / 12 for n in (4, 6, 2)) * 1j)] * 2  # type: ignore[operator, union-attr]
        return fingerprint(module.state_dict())[0]

    whole = run("whole")
    with pytest.raises(Killed):
        run("killed", killed_at=16)
    assert run("killed") == whole


def test_a_module_with_a_counter_a_mask_and_half_precision_is_merged() -> None:
    class Odd(SmallModule):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.tensor(0))
            self.register_buffer("mask", torch.tensor([True, False]))
            self.register_buffer("brief", torch.zeros(2, dtype=torch.bfloat16))

        def on_train_batch_end(self, *_: Any) -> None:
            self.count += 1
            self.mask.logical_not_()  # type: ignore[operator]
            self.brief += 1  # type: ignore[operator]

    module = fit(FederatedAveraging(every_n_epochs=1), module=made(Odd), max_epochs=3)
    assert (module.count.item(), module.mask.tolist()) == (2, [True, False])  # type: ignore[operator, union-attr]
    assert module.brief.tolist() == [torch.tensor((8 * 4 + 12 * 6 + 4 * 2) / 24).bfloat16().item()] * 2  # type: ignore[operator, union-attr]


def test_a_buffer_that_grows_is_refused_by_name() -> None:
    class Grows(SmallModule):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("queue", torch.zeros(1))

        def on_train_batch_end(self, *_: Any) -> None:
            self.queue = torch.cat([self.queue, torch.ones(1)])

    with pytest.raises(InputError, match="queue has changed its shape in a visit"):
        fit(FederatedAveraging(every_n_epochs=1), module=made(Grows))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give every_n_epochs or every_n_steps"),
        ({"every_n_epochs": 1, "optimizer_state": "carry"}, "'carry' has nowhere to go in federated averaging"),
        ({"every_n_epochs": 1, "weighting": "patients"}, "weighting='patients' is not one of images, equal"),
        ({"every_n_epochs": 0}, "count from 1"),
        ({"every_n_epochs": 1, "ring": 0}, "ring=0 is not a whole number from 1"),
        ({"every_n_epochs": 1, "rounds": 1.5}, r"rounds=1.5 is not a whole number from 1"),
        ({"every_n_epochs": 1, "cycles_first": True}, "cycles_first=True is not a whole number from 0"),
    ],
)
def test_settings_that_make_no_mean_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FederatedAveraging(**settings)


@pytest.mark.parametrize(
    ("callbacks", "settings", "said"),
    [
        ([], {"val_check_interval": 0.5}, "validated after whole rounds, of 3 epochs"),
        ([], {"check_val_every_n_epoch": 2}, "validated after whole rounds"),
        ([], {"check_val_every_n_epoch": None, "val_check_interval": 5}, "validated after whole rounds"),
        ([EMAWeightAveraging()], {}, "EMAWeightAveraging counts the trainer's steps"),
        ([GradientAccumulationScheduler({0: 2})], {}, "GradientAccumulationScheduler counts"),
        ([BackboneFinetuning()], {}, "BackboneFinetuning counts"),
        ([CyclicalWeightTransfer(every_n_epochs=1)], {}, "two transfer callbacks"),
    ],
)
def test_what_would_make_a_round_depend_on_its_order_is_refused(
    callbacks: list[Callback], settings: dict[str, Any], said: str
) -> None:
    module = made(SmallModule)
    module.backbone = nn.Linear(1, 1)
    with pytest.raises(InputError, match=said):
        fit(FederatedAveraging(every_n_epochs=1), *callbacks, module=module, **settings)
    assert not Path("ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"interval": "epoch", "frequency": 2}, "set it to 1"),
        ({"interval": "epoch", "frequency": 1, "plateau": True}, "set it to 3"),
    ],
)
def test_a_schedule_that_counts_over_the_visits_of_a_round_is_refused(schedule: dict[str, Any], said: str) -> None:
    class Scheduled(SmallModule):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            kinds = torch.optim.lr_scheduler
            plateau = schedule.pop("plateau", False)
            made = kinds.ReduceLROnPlateau(optimizer) if plateau else kinds.StepLR(optimizer, 1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": made, "monitor": "val_loss", **schedule}}

    with pytest.raises(InputError, match=said):
        fit(FederatedAveraging(every_n_epochs=1), module=made(Scheduled))


def test_a_plateau_is_looked_for_once_a_round() -> None:
    class Scheduled(SmallModule):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.08)
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=9.0)
            scheduler = {"scheduler": self.plateau, "monitor": "val_loss", "frequency": 3}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    fit(FederatedAveraging(every_n_epochs=1), module=made(Scheduled), max_epochs=9)
    rates = [line["learning_rates_start"] for line in ledger() if "visit" in line]
    assert rates == [[0.08]] * 3 + [[0.04]] * 3 + [[0.02]] * 3
