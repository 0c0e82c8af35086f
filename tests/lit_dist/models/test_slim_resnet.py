import pytest
import torch
import torchvision

from lit_dist.models.backbones import build_backbone, head_name
from lit_dist.models.slim_resnet import slim_resnet18


@torch.no_grad()
def test_with_the_original_width_it_is_torchvisions_resnet18() -> None:
    torch.manual_seed(0)
    original, ours = torchvision.models.resnet18(num_classes=3).eval(), slim_resnet18(3, width=64).eval()
    ours.load_state_dict(original.state_dict())  # strict: the names and shapes are the same
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), original(images))


@torch.no_grad()
def test_its_initial_weights_are_spread_as_torchvisions() -> None:
    torch.manual_seed(0)
    original, ours = torchvision.models.resnet18().state_dict(), slim_resnet18(1000, width=64).state_dict()
    for name, value in original.items():
        if value.ndim == 4:
            assert ours[name].std().item() == pytest.approx(value.std().item(), rel=0.05), name


@pytest.mark.parametrize("width", [8, 32])
def test_its_width_and_classes_are_set_by_name(width: int) -> None:
    network = build_backbone("slim_resnet18", 5, dropout=0.5, width=width)
    assert network.get_submodule(head_name(network)).weight.shape == (5, 8 * width)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
