"""Daisy chains, beside a few lines of plain PyTorch that do the same, and beside federated averaging."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from lit_dist import InputError
from lit_dist.callbacks import DaisyChaining, FederatedAveraging, LocalBatchNorm, RunCheckpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.provenance.verify import verify
from lit_dist.study.callback_settings import callback_settings
from lit_dist.utils.signatures import parameters
from small import SIZES, SmallData, SmallModule, Tell, fit, ledger, loaders, trainer


class Plain(SmallModule):
    """Nothing of it is drawn at random."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


def made() -> SmallModule:
    pl.seed_everything(0, verbose=False)
    return Plain()


def plain_loop(orders: list[list[str]], rounds: int) -> dict[str, Tensor]:
    """One model a site; ``orders`` has the sites of the models, link by link."""
    module, optimizer = made(), torch.optim.Adam
    mean = deepcopy(module.state_dict())
    for number in range(rounds):
        models = [deepcopy(mean) for _ in SIZES]
        images = [0] * len(models)
        for order in orders[2 * number : 2 * number + 2]:
            for model, site in enumerate(order):
                module.load_state_dict(models[model])
                steps = optimizer(module.parameters(), lr=module.lr)
                for (inputs,) in loaders(shuffle=False)[site]:
                    steps.zero_grad()
                    module.network(inputs / 10).pow(2).mean().backward()
                    steps.step()
                models[model], images[model] = deepcopy(module.state_dict()), images[model] + 2 * SIZES[site]
        for name, value in mean.items():
            total: Any = 0
            for model, count in zip(models, images, strict=True):
                total = total + count * model[name].double()
            mean[name] = (total / sum(images)).to(value) if value.is_floating_point() else models[-1][name]
    return mean


def test_models_that_change_places_equal_a_plain_loop_bit_for_bit() -> None:
    chaining = DaisyChaining(every_n_epochs=1, average_every=2)
    module = fit(chaining, data=SmallData(shuffle=False), module=made(), max_epochs=12)
    visits = [line["site"] for line in ledger() if "visit" in line]
    orders = [visits[first + link : first + 6 : 2] for first in (0, 6) for link in (0, 1)]
    assert fingerprint(module.state_dict()) == fingerprint(plain_loop(orders, 2))
    assert {line["cycle"] for line in ledger()} == {0, 1}
    assert "12 visits and 2 merges" in verify(".")


@pytest.mark.slow
@pytest.mark.parametrize("length", [{"every_n_epochs": 1}, {"every_n_steps": 3, "optimizer_state": "local"}])
def test_averaged_after_every_visit_it_is_federated_averaging(length: dict[str, Any]) -> None:
    found = []
    for kind in (FederatedAveraging, DaisyChaining):
        settings = {"average_every": 1} if kind is DaisyChaining else {}
        fit(kind(**length, **settings), default_root_dir=kind.__name__)
        found.append([line["sha256_out"] for line in ledger(Path(kind.__name__))])
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("by_steps", [False, True])
def test_a_run_that_is_ended_within_a_chain_resumes_as_if_it_had_not(by_steps: bool) -> None:
    length: dict[str, Any] = {"every_n_steps": 2} if by_steps else {"every_n_epochs": 1}

    def run(folder: str, *more: Any, **kwargs: Any) -> list[str]:
        Path(folder).mkdir(exist_ok=True)
        chaining = DaisyChaining(**length, average_every=3, optimizer_state="local")
        pl.seed_everything(0, verbose=False)
        fitted = trainer(
            *[chaining, LocalBatchNorm(), *more, RunCheckpoint()],
            default_root_dir=folder,
            limit_val_batches=0,
            max_epochs=2 if by_steps else 18,
        )
        fitted.fit(SmallModule(), SmallData(), **kwargs)
        return [line["sha256_out"] for line in ledger(Path(folder))]

    whole = run("whole")
    for step in (4, 17, 31):
        folder = f"ended_{step}"
        with pytest.raises(SIGTERMException), pytest.warns(UserWarning, match="within a round"):
            run(folder, Tell("on_train_batch_end", step))
        assert run(folder, ckpt_path=newest_checkpoint(folder)) == whole
        assert "18 visits and 2 merges" in verify(folder)


@pytest.mark.parametrize("average_every", [0, 1.5, True, "often"])
def test_a_number_of_visits_that_is_none_is_refused(average_every: Any) -> None:
    with pytest.raises(InputError, match="average_every"):
        DaisyChaining(every_n_epochs=1, average_every=average_every)


def test_what_makes_no_mean_of_chains_is_refused() -> None:
    with pytest.raises(InputError, match="'carry' has nowhere to go"):
        DaisyChaining(every_n_epochs=1, optimizer_state="carry")
    with pytest.raises(InputError, match="after whole rounds, of 6 epochs"):
        fit(DaisyChaining(every_n_epochs=1), check_val_every_n_epoch=3)


def test_a_configuration_has_the_settings_that_a_federation_takes() -> None:
    given = {"class_path": "DaisyChaining", "init_args": {"every_n_epochs": 1}}
    assert callback_settings(given, "here")["init_args"].keys() == parameters(DaisyChaining)[0].keys()
