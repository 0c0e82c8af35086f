"""VisitCallback: events in their order, state in two scopes, in simulation, resumption, federation and replay."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from typing_extensions import override

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.utils.file_backed import whole
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_callback import VisitCallback
from scaffold import Scaffold
from small import SmallData, SmallModule, fit, ledger, loader, trainer
from small_federation import engine, federated, server, simulate


class Events(VisitCallback):
    """Notes what happens, in an attribute: for a look at one fit."""

    def __init__(self, notes: list[str], name: str) -> None:
        self.notes, self.name = notes, name

    @override
    def begin_run(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.notes.append(f"{self.name}: run")

    @override
    def on_visit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        self.notes.append(f"{self.name}: start {visit.number}")

    @override
    def on_visit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        self.notes.append(f"{self.name}: end {visit.number}")

    @override
    def on_cycle_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        self.notes.append(f"{self.name}: cycle {visit.cycle}")


def test_events_reach_all_callbacks_in_their_order() -> None:
    notes: list[str] = []
    first, last = Events(notes, "first"), Events(notes, "last")
    fit(first, CyclicalWeightTransfer(every_n_epochs=1), last, max_epochs=4)
    each = [f"{name}: {what}" for what in ("start 0", "end 0") for name in ("first", "last")]
    assert notes[:6] == ["first: run", "last: run", *each]
    ends = ["first: end 2", "first: cycle 0", "last: end 2", "last: cycle 0"]
    assert notes[-8:-4] == ends
    assert notes[-4:] == ["first: start 3", "last: start 3", "first: end 3", "last: end 3"]
    assert sum("cycle" in note for note in notes) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:Checkpoint directory .* exists")
def test_a_fit_that_resumes_from_any_checkpoint_has_the_same_state() -> None:
    given: dict[str, Any] = {"every_n_steps": 2, "optimizer_state": "carry"}
    settings: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True}
    whole, every = Scaffold(), RunCheckpoint(every_n_steps=1, keep=1000)
    model = ModelCheckpoint("kept", save_top_k=-1, every_n_train_steps=1, save_on_train_epoch_end=False)
    unbroken = fit(CyclicalWeightTransfer(**given), whole, model, every, **settings)
    paths = sorted({*Path("checkpoints").glob("step_*.ckpt"), *Path("kept").glob("*.ckpt")})
    assert len(paths) > 20
    for number, path in enumerate(paths):
        again = Scaffold()
        folder = Path(f"again_{number}")
        module = resumed(path, folder, CyclicalWeightTransfer(**given), again, **settings)
        assert fingerprint(module.state_dict()) == fingerprint(unbroken.state_dict()), path
        assert flat(again) == flat(whole), path


def flat(callback: VisitCallback) -> str:
    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, Tensor) else value

    return json.dumps(whole(callback.state_dict()), default=plain, sort_keys=True)


def resumed(path: Path, folder: Path, *callbacks: Any, **kwargs: Any) -> SmallModule:
    pl.seed_everything(0, verbose=False)
    module = SmallModule()
    data = SmallData()
    last = RunCheckpoint()
    trainer(*callbacks, last, default_root_dir=folder, **kwargs).fit(module, data, ckpt_path=path)
    return module


LENGTHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs": ({"every_n_epochs": 1, "validation": "cycle"}, {"max_epochs": 6}),
    "steps": ({"every_n_steps": 3, "optimizer_state": "carry"}, {"max_epochs": 2}),
    "validated within": ({"every_n_epochs": 2}, {"max_epochs": 8}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", LENGTHS)
def test_state_that_travels_and_state_that_stays_are_those_of_the_simulation(case: str) -> None:
    given, settings = LENGTHS[case]
    make = lambda: CyclicalWeightTransfer(**given)  # noqa: E731
    simulated = simulate(make, Scaffold(), **settings)
    parties = engine(make, Scaffold, **settings)
    run = server(parties, make, Scaffold(), **settings)
    run.run()
    assert [entry.sha256_out for entry in federated()] == [entry.sha256_out for entry in simulated]
    assert [entry.bytes for entry in federated()] == [entry.bytes for entry in simulated]


def test_what_travels_is_counted_in_the_ledgers_bytes() -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1), max_epochs=3)
    without = [line["bytes"] for line in ledger()]
    Path("ledger.jsonl").unlink()
    module = fit(CyclicalWeightTransfer(every_n_epochs=1), Scaffold(), max_epochs=3)
    control = sum(each.nbytes for each in module.parameters())
    assert [line["bytes"] for line in ledger()] == [number + control for number in without]


class Grows(Scaffold):
    """Travels as something else than it began as."""

    def on_visit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        self.travelling["seen"] = visit.site


def test_what_travels_keeps_its_form() -> None:
    with pytest.raises(InputError, match=r"Grows\.travelling has at 'seen' a value of type str, and had nothing"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), Grows(), max_epochs=3)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_visit_that_is_skipped_leaves_no_trace_in_the_state() -> None:
    class Diverges(SmallModule):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * float("nan") if self.visited.endswith("b") else loss

    scaffold = Scaffold()
    transfer = CyclicalWeightTransfer(every_n_epochs=1, on_divergence="skip")
    with pytest.warns(UserWarning, match="the visit is skipped"):
        fit(transfer, scaffold, module=Diverges(), max_epochs=3)
    assert scaffold.travelling["visits"] == 2
    assert all(torch.isfinite(each).all() for each in scaffold.travelling["control"].values())
    assert scaffold.stays("b") == {}


def test_state_is_kept_in_the_two_scopes_only() -> None:
    with pytest.raises(TypeError, match="Own overrides state_dict"):

        class Own(VisitCallback):
            def state_dict(self) -> dict[str, Any]:
                return {}

    class Beside:
        def state_dict(self) -> dict[str, Any]:
            return {}

    with pytest.raises(TypeError, match="Both overrides state_dict"):

        class Both(Beside, VisitCallback):
            pass

    with pytest.raises(TypeError, match="Shadows overrides staying"):

        class Shadows(VisitCallback):
            staying = {}  # type: ignore[assignment]  # noqa: RUF012

    with pytest.raises(InputError, match="outside any visit"):
        _ = Scaffold().staying


def first(state: dict[str, Any]) -> str:
    return next(iter(state["control"]))


LIES: dict[str, Any] = {
    "not finite": lambda state: state["control"][first(state)].fill_(float("nan")),
    "another shape": lambda state: state["control"].update({first(state): torch.zeros(999)}),
    "another dtype": lambda state: state["control"].update({first(state): state["control"][first(state)].double()}),
    "one more": lambda state: state["control"].update(more=torch.zeros(1)),
    "one less": lambda state: state["control"].pop(first(state)),
    "another type": lambda state: state.update(visits=1.0),
    "an endless number": lambda state: state.update(visits=10**40),
    "text": lambda state: state.update(visits="1" * 10**6),
    "no dictionary": lambda state: state.update(control=[]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_sites_travelling_state_is_refused(lie: str) -> None:
    make = lambda: CyclicalWeightTransfer(every_n_steps=1)  # noqa: E731
    parties = engine(make, Scaffold, max_epochs=1)
    told = LIES[lie]
    parties.tamper("train", "site-2", lambda answer: told(answer["baton"]["callbacks"]["Scaffold{}"]["travelling"]))
    with pytest.raises(InputError, match="site-2"):
        server(parties, make, Scaffold(), max_epochs=1).run()
    assert [entry.site for entry in federated()] == ["site-1"]


class Holds(VisitCallback):
    """Has one value in one of its states."""

    def __init__(self, scope: str, value: Any) -> None:
        self.scope, self.value = scope, value

    @override
    def begin_run(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.travelling = {"x": self.value(pl_module)} if self.scope == "travelling" else {}

    @override
    def on_visit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, visit: Visit) -> None:
        if self.scope == "staying":
            self.staying = {"x": self.value(pl_module)}


VALUES: dict[str, Any] = {
    "a list": lambda module: [1],
    "an array": lambda module: module.network[0].weight.detach().numpy(),
    "a set": lambda module: {1},
    "a module": lambda module: module.network,
    "a dictionary by number": lambda module: {1: 2},
    "a dictionary of another kind": lambda module: defaultdict(int),
    "a sparse tensor": lambda module: torch.ones(2).to_sparse(),
    "a tensor without values": lambda module: torch.ones(2, device="meta"),
    "a complex number": lambda module: 1j,
}
TRAVEL: dict[str, Any] = {
    "not a number": lambda module: float("nan"),
    "an infinite tensor": lambda module: torch.tensor(float("inf")),
    "a long text": lambda module: "x" * 1000,
    "a huge number": lambda module: 10**40,
    "a number beyond floats": lambda module: 10**400,
}


@pytest.mark.parametrize(
    ("scope", "value"),
    [(scope, name) for scope in ("travelling", "staying") for name in VALUES]
    + [("travelling", name) for name in TRAVEL],
)
def test_what_neither_a_checkpoint_nor_a_message_holds_is_refused_by_its_place(scope: str, value: str) -> None:
    with pytest.raises(InputError, match=f"Holds.{scope}/x "):
        fit(CyclicalWeightTransfer(every_n_epochs=1), Holds(scope, {**VALUES, **TRAVEL}[value]), max_epochs=1)


@pytest.mark.parametrize("rows", [slice(None), slice(1, None)], ids=["whole", "a view"])
@pytest.mark.parametrize("scope", ["travelling", "staying"])
def test_state_that_is_the_modules_own_tensor_is_kept_as_it_was(scope: str, rows: slice) -> None:
    holds = Holds(scope, lambda module: module.network[0].weight[rows])
    module = fit(CyclicalWeightTransfer(every_n_epochs=1), holds, max_epochs=1)
    kept = getattr(holds, scope)["x"]
    assert not kept.requires_grad
    assert not torch.equal(kept, module.network[0].weight[rows])


def test_without_a_transfer_it_is_refused() -> None:
    with pytest.raises(InputError, match="Scaffold takes part in visits; add a transfer callback"):
        fit(Scaffold(), data=loader(0, 2), max_epochs=1)
