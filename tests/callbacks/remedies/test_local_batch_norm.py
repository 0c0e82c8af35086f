"""LocalBatchNorm: SiloBN and FedBN beside a few lines of plain PyTorch, and that nobody else sees what a site keeps."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn

from lit_dist import InputError, SafetensorsCheckpointIO, read_checkpoint
from lit_dist.callbacks import (
    EWC,
    CyclicalWeightTransfer,
    FederatedAveraging,
    FedProx,
    FixBN,
    LocalBatchNorm,
    RunCheckpoint,
    SiteStatistics,
    VisitAveraging,
    WeightTransfer,
)
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.models.norm_statistics import norm_tensors
from lit_dist.provenance.verify import verify
from lit_dist.visits.local_tensors import LOCAL
from small import SIZES, SmallData, SmallModule, fit, ledger, loaders, trainer

Tensors = dict[str, Tensor]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Plain(SmallModule):
    """Nothing of it is drawn at random, and its optimizer has a momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Data(SmallData):
    """Each site's images are validated, too."""

    def __init__(self) -> None:
        super().__init__(shuffle=False)

    def val_dataloader(self) -> Any:
        return loaders(shuffle=False)


class Judged(Plain):
    """Logs the loss by site."""

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.network(inputs / 10)
        return found

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        loss = self.network(batch[0] / 10).pow(2).mean()
        self.log(f"val_loss/{'abc'[dataloader_idx]}", loss, on_epoch=True, add_dataloader_idx=False)


def made(kind: type[SmallModule] = Judged) -> SmallModule:
    pl.seed_everything(0, verbose=False)
    return kind()


def plain_loop(affine: bool, averaged: bool, policy: str) -> tuple[Tensors, dict[str, Tensors], dict[str, float]]:
    """Two cycles: what travels, what each site keeps, and the loss of each site's images."""
    module = made()
    names = [n for n in module.state_dict() if n.startswith("network.1.") and (affine or "running" in n or "num" in n)]
    travels, own, momenta = deepcopy(module.state_dict()), {}, {}
    first = {name: travels[name].clone() for name in names}
    carried: dict[str, Any] = {}
    for _ in range(2):
        sums: dict[str, Any] = dict.fromkeys(travels, 0)
        for site, size in SIZES.items():
            module.load_state_dict(travels | own.get(site, {}))
            optimizer = module.configure_optimizers()
            parameters = dict(module.named_parameters())
            state = carried | momenta.get(site, {}) if policy == "carry" else momenta.get(site, {})
            for name, value in state.items() if policy != "reset" else ():
                optimizer.state[parameters[name]]["momentum_buffer"] = value.clone()
            for (inputs,) in loaders(shuffle=False)[site]:
                optimizer.zero_grad()
                module.network(inputs / 10).pow(2).mean().backward()
                optimizer.step()
            left = {name: optimizer.state[value]["momentum_buffer"] for name, value in parameters.items()}
            momenta[site] = {name: value for name, value in left.items() if policy == "local" or name in names}
            carried = {name: value for name, value in left.items() if name not in names}
            after = deepcopy(module.state_dict())
            own[site] = {name: after[name] for name in names}
            after |= first
            sums = {name: sums[name] + 2 * size * value.double() for name, value in after.items()}
            travels = travels if averaged else after
        if averaged:
            travels = {n: (v / 24).to(travels[n].dtype) for n, v in sums.items()}
    losses = {}
    for site in SIZES:
        module.load_state_dict(travels | own[site])
        values = [module.eval().network(inputs / 10).pow(2).mean() for (inputs,) in loaders(shuffle=False)[site]]
        losses[site] = torch.stack(values).mean().item()
    return travels, own, losses


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        (CyclicalWeightTransfer, "reset"),
        (CyclicalWeightTransfer, "carry"),
        (CyclicalWeightTransfer, "local"),
        (FederatedAveraging, "reset"),
        (FederatedAveraging, "local"),
    ],
)
def test_it_equals_a_plain_loop_bit_for_bit(kind: type[WeightTransfer], policy: str, affine: bool) -> None:
    settings: dict[str, Any] = {"every_n_epochs": 1, "optimizer_state": policy}
    if kind is CyclicalWeightTransfer:
        settings["validation"] = "cycle"
    callback = LocalBatchNorm(affine=affine)
    module = fit(kind(**settings), callback, data=Data(), module=made())
    travels, own, losses = plain_loop(affine, kind is FederatedAveraging, policy)
    assert {name: value.tolist() for name, value in module.state_dict().items()} == {
        name: value.tolist() for name, value in travels.items()
    }
    for site, tensors in own.items():
        kept = callback.stays(site)[LOCAL]["own"]
        assert kept.keys() == tensors.keys()
        assert all(torch.equal(kept[name], value) for name, value in tensors.items())
        assert module.trainer.callback_metrics[f"val_loss/{site}"].item() == pytest.approx(losses[site], rel=1e-6)
    assert "chain is whole" in verify(".")


def merged(found: Any) -> dict[str, float]:
    """The metrics of all loaders."""
    return {name: float(value) for each in found for name, value in each.items()}


def own(callback: LocalBatchNorm, site: str) -> Tensors:
    found: Tensors = callback.stays(site)[LOCAL]["own"]
    return found


def test_a_site_that_is_not_visited_is_judged_by_estimated_statistics() -> None:
    def judged(*callbacks: Callback, name: str) -> dict[str, float]:
        module = fit(
            CyclicalWeightTransfer(every_n_epochs=1, order=["a", "b"], validation="cycle"),
            *callbacks,
            data=Data(),
            module=made(),
            max_epochs=2,
            default_root_dir=name,
        )
        if name == "left":
            module.load_state_dict(travelled)
            return merged(module.trainer.validate(module, Data(), verbose=False))
        travelled.update(module.state_dict())
        return {key: float(value) for key, value in module.trainer.callback_metrics.items()}

    travelled: Tensors = {}
    local = judged(LocalBatchNorm(images=8), name="local")
    estimated = judged(SiteStatistics(images=8), name="left")
    assert local["val_loss/c"] == estimated["val_loss/c"]
    assert local["val_loss/a"] != estimated["val_loss/a"]


class Killed(Exception):
    """Ends a fit as a kill does."""


class KillAt(Callback):
    """Kills a fit in one of its steps."""

    takes_part = False

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CyclicalWeightTransfer, FederatedAveraging])
def test_a_run_that_is_killed_within_a_visit_ends_the_same_and_its_best_checkpoint_has_what_sites_kept(
    kind: type[WeightTransfer],
) -> None:
    def run(folder: str, step: int | None = None) -> tuple[list[str], list[dict[str, Tensor]], dict[str, float]]:
        Path(folder).mkdir(exist_ok=True)
        callback, kept = LocalBatchNorm(affine=True), newest_checkpoint(folder)
        best = ModelCheckpoint(dirpath=f"{folder}/best", filename="best", enable_version_counter=False)
        callbacks = [kind(every_n_epochs=1), callback, RunCheckpoint(), best, KillAt(step)]
        fitted = trainer(*callbacks, default_root_dir=folder, plugins=[SafetensorsCheckpointIO()])
        module = made()
        fitted.fit(module, Data(), ckpt_path=kept)
        again = trainer(LocalBatchNorm(), plugins=[SafetensorsCheckpointIO()], enable_checkpointing=True)
        judged = merged(again.validate(made(), Data(), ckpt_path=best.best_model_path, verbose=False))
        logged = {
            name: value.item() for name, value in fitted.callback_metrics.items() if "val" in name and "/" in name
        }
        assert judged == pytest.approx(logged, rel=1e-6)  # sums of batches, of which Lightning's own are in float32
        return [line["sha256_out"] for line in ledger(Path(folder))], [own(callback, site) for site in SIZES], judged

    whole = run("whole")
    for step in (6, 14):
        with pytest.raises(Killed):
            run(f"killed_{step}", step)
        again = run(f"killed_{step}")
        assert again[0] == whole[0]
        assert again[2] == whole[2]
        assert all(torch.equal(a[name], b[name]) for a, b in zip(again[1], whole[1], strict=True) for name in a)


class Spoiled(Judged):
    """Diverges at its second site, in its second cycle."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * torch.nan if self.trainer.current_epoch == 4 else loss


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_visit_that_is_skipped_leaves_the_site_what_it_had() -> None:
    kept: list[Tensors] = []
    for epochs in (3, 6):
        callback = LocalBatchNorm(affine=True)
        transfer = CyclicalWeightTransfer(every_n_epochs=1, on_divergence="skip", validation="cycle")
        module = made(Spoiled)
        if epochs == 6:
            with pytest.warns(UserWarning, match="the visit is skipped"):
                fit(transfer, callback, data=Data(), module=module, max_epochs=6)
        else:
            fit(transfer, callback, data=Data(), module=module, max_epochs=3)
        kept.append(own(callback, "b"))
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    assert ledger()[-2]["outcome"] == "skipped"
    assert ledger()[-2]["sha256_in"] == ledger()[-2]["sha256_out"]


def test_others_see_a_sites_own_layers_and_neither_pull_nor_send_them() -> None:
    prox, ewc, averaging, callback = FedProx(10.0), EWC(images=2), VisitAveraging(), LocalBatchNorm(affine=True)

    class Classes(Judged):
        def __init__(self) -> None:
            super().__init__()
            self.network[2] = nn.Linear(8, 2)

    hashes = []
    for order in ([prox, ewc, averaging, callback], [callback, prox, ewc, averaging]):
        transfer = CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")
        module = fit(transfer, *order, data=Data(), module=made(Classes))
        hashes.append([line["sha256_out"] for line in ledger()])
    assert hashes[0][-6:] == hashes[1][-6:]
    names = norm_tensors(module, affine=True).keys()
    assert not names & ewc.travelling["fisher"].keys()
    assert not names & averaging.travelling["average"].keys()
    assert averaging.travelling["average"].keys() | names == module.state_dict().keys()


def test_weights_of_layers_that_always_normalise_by_the_batch_are_in_place_too() -> None:
    class ByBatch(Judged):
        def __init__(self) -> None:
            super().__init__()
            self.network[1] = nn.BatchNorm1d(8, track_running_stats=False)

    callback = LocalBatchNorm(affine=True)
    transfer = CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")
    module = fit(transfer, callback, data=Data(), module=made(ByBatch), max_epochs=3)
    module.load_state_dict(own(callback, "b"), strict=False)
    losses = [module.eval()(inputs).pow(2).mean() for (inputs,) in loaders(shuffle=False)["b"]]
    found = module.trainer.callback_metrics["val_loss/b"].item()
    assert found == pytest.approx(torch.stack(losses).mean().item(), rel=1e-6)


def test_a_visit_is_repeated_from_what_its_site_had_kept() -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1, baton_dir="batons"), LocalBatchNorm(), data=Data(), module=made())
    [staying] = read_checkpoint("batons/visit_000000.local")["staying"].values()
    kept = staying[LOCAL]["own"]
    assert kept["network.1.num_batches_tracked"] == SIZES["a"]
    assert not torch.equal(kept["network.1.running_mean"], torch.zeros(8))
    travels = read_checkpoint("batons/visit_000000.baton")["state_dict"]
    assert torch.equal(travels["network.1.running_mean"], torch.zeros(8))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([SiteStatistics()], "two SiteStatistics"),
        ([FixBN()], "FixBN makes one set of statistics for all sites"),
        ([EMAWeightAveraging()], "EMAWeightAveraging makes one set of statistics"),
    ],
)
def test_what_makes_other_statistics_is_refused(others: list[Callback], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit(CyclicalWeightTransfer(every_n_epochs=1), LocalBatchNorm(), *others, data=Data(), module=made())


@pytest.mark.parametrize("settings", [{"images": 0}, {"images": 1}, {"affine": "yes"}, {"seed": -1}])
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        LocalBatchNorm(**settings)
