"""What happens to momentum at a transfer, against plain loops that do the same."""

import copy
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.callbacks.optimizer_states import OptimizerStates
from small import SmallData, SmallModule, trainer


class NoChance(SmallModule):
    """Without dropout, so that a plain loop needs no seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.network[2] = torch.nn.Identity()


def plain(policy: str, visits: int) -> dict[str, torch.Tensor]:
    pl.seed_everything(0, verbose=False)
    module = NoChance()
    sites = [list(loader) for loader in SmallData(shuffle=False).train_dataloader().values()]
    optimizer = module.configure_optimizers()
    local: dict[int, Any] = {}
    for visit in range(visits):
        site = visit % len(sites)
        if policy == "reset":
            optimizer = module.configure_optimizers()
        if policy == "local":
            optimizer = module.configure_optimizers()
            if site in local:
                optimizer.load_state_dict(local[site])
        for batch in sites[site]:
            optimizer.zero_grad()
            module.network(batch[0] / 10).pow(2).mean().backward()
            optimizer.step()
        local[site] = copy.deepcopy(optimizer.state_dict())
    return module.state_dict()


@pytest.mark.parametrize("policy", ["reset", "carry", "local"])
def test_each_policy_equals_a_plain_loop(policy: Any) -> None:
    pl.seed_everything(0, verbose=False)
    module = NoChance()
    transfer = CyclicalWeightTransfer(every_n_epochs=1, optimizer_state=policy)
    trainer(transfer, max_epochs=9).fit(module, SmallData(shuffle=False))
    expected = plain(policy, visits=9)
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
    others = [plain(other, visits=9) for other in {"reset", "carry", "local"} - {policy}]
    assert all(not torch.equal(other["network.0.weight"], expected["network.0.weight"]) for other in others)


def test_learning_rates_continue_in_every_case() -> None:
    for policy in ("reset", "carry", "local"):
        parameter = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.Adam([parameter], lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        states = OptimizerStates(policy)  # type: ignore[arg-type]
        for site in ("a", "b", "a"):
            parameter.grad = torch.ones(1)
            optimizer.step()
            schedule.step()
            states.transfer([optimizer], site, "b" if site == "a" else "a")
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.00625)
