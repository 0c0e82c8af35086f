"""Statistics of batch normalisation against torch's own functions, layer by layer."""

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm

from lit_dist.models.norm_statistics import estimate, in_place, norms_of


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.9), nn.ReLU(), nn.BatchNorm1d(4))
    made(torch.randn(8, 3))  # so that it has statistics
    return made.eval()


def plain(network: nn.Sequential, points: torch.Tensor) -> list[torch.Tensor]:
    """The mean and variance before each layer, each normalised by its batch's."""
    before = network[0](points)
    first, second = network[1], network[4]
    after = batch_norm(before, None, None, first.weight, first.bias, training=True).relu()
    assert isinstance(second, nn.BatchNorm1d)
    return [each for values in (before, after) for each in (values.mean(0), values.var(0))]


def test_the_statistics_are_those_of_the_batches_and_nothing_is_left_behind(network: nn.Sequential) -> None:
    points = torch.randn(2, 16, 3)
    before = {name: each.clone() for name, each in network.state_dict().items()}
    norms = norms_of(network)
    found = estimate(norms, network, points)
    with torch.no_grad():
        wanted = [(one + other) / 2 for one, other in zip(*map(lambda p: plain(network, p), points), strict=True)]
    del found[2::3]  # how many batches there were
    torch.testing.assert_close(found, wanted)
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    assert [(norm.training, norm.momentum) for norm in norms] == [(False, 0.1)] * 2


def test_they_are_in_place_in_the_block_only_also_where_it_fails(network: nn.Sequential) -> None:
    norms, points = norms_of(network), torch.randn(16, 3)
    usual = network(points)
    own = estimate(norms, network, [points])
    with in_place(norms, own):
        assert not torch.equal(network(points), usual)
    with pytest.raises(RuntimeError, match="shapes"), in_place(norms, own):
        network(points[:, :2])
    assert torch.equal(network(points), usual)
