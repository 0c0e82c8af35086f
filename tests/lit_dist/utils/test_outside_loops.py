"""What is done to a module outside Lightning's loops leaves it as it was."""

import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric

from lit_dist.utils.outside_loops import modes_kept, state_kept


def test_each_part_is_in_its_own_mode_again_also_after_a_failure() -> None:
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    module[1].eval()  # a part that is frozen
    with modes_kept(module):
        module.train()
    with pytest.raises(TypeError), modes_kept(module):
        module.eval()(None)
    assert [part.training for part in module.modules()] == [True, True, False]


class Collects(nn.Module):
    """Has what a module collects in an evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.metric = nn.BatchNorm1d(2), MeanMetric()
        self.by_site: dict[str, list[int]] = {"a": []}
        self.seen = 0

    def forward(self, x: torch.Tensor) -> None:
        self.norm(x)
        self.metric.update(x)
        self.by_site["a"].append(1)
        self.by_site["b"] = [2]
        self.seen, self.more = self.seen + 1, x


def test_all_that_is_collected_is_taken_back_and_the_weights_are_left_alone() -> None:
    module = Collects()
    mean, weight = module.norm.running_mean, module.norm.weight
    with state_kept(module), torch.no_grad():
        module(torch.ones(4, 2))
        weight.fill_(3)
    assert module.norm.running_mean is mean
    assert torch.equal(module.norm.running_mean, torch.zeros(2))  # type: ignore[arg-type]
    assert not module.metric.update_called
    assert (module.by_site, module.seen, hasattr(module, "more")) == ({"a": []}, 0, False)
    assert torch.equal(module.norm.weight, torch.full((2,), 3.0))
