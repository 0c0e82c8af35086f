"""Grad-CAM finds what decides, depends on the weights, and knows of which layer it is."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torchvision.models import VisionTransformer

from lit_dist.export.grad_cam import grad_cam, last_layer
from lit_dist.models.backbones import build_backbone
from lit_dist.utils.errors import InputError

CORNER = slice(16, 24)


def squares(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise; that of class 1 has a bright square, always at the same place."""
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 2
    images[labels == 1, :, CORNER, CORNER] += 2
    return images, labels


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network that tells noise from noise with a square."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_backbone("slim_resnet18", 2, width=8)
        optimizer = torch.optim.Adam(network.parameters(), 0.003)
        for step in range(30):
            images, labels = squares(16, step)
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network.eval()


def looked(network: nn.Module, images: Tensor) -> Tensor:
    return grad_cam(network, last_layer(network, images[:1])[1], images, [1] * len(images))


def test_a_map_is_brightest_where_the_square_is_that_decides(trained: nn.Module) -> None:
    images, labels = squares(8, 1000)
    assert (trained(images).argmax(1) == labels).all()
    maps = looked(trained, images[labels == 1])
    rows, columns = maps.flatten(1).argmax(1) // 32, maps.flatten(1).argmax(1) % 32
    near = range(CORNER.start - 4, CORNER.stop + 4)  # half a place of a map of 4 by 4
    assert all(place in near for place in [*rows.tolist(), *columns.tolist()])


def test_other_weights_give_another_map(trained: nn.Module) -> None:
    """The model parameter randomisation test of Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018."""
    images = squares(8, 1000)[0][1::2]
    maps, other = looked(trained, images), copy.deepcopy(trained)
    generator = torch.Generator().manual_seed(1)
    for weights in other.parameters():
        weights.data = torch.randn(weights.shape, generator=generator) * weights.data.std(correction=0)
    likeness = torch.corrcoef(torch.stack([maps.flatten(), looked(other, images).flatten()]))[0, 1]
    assert likeness < 0.5
    assert torch.equal(maps, looked(trained, images))


def test_a_map_is_what_the_formula_says_of_its_own_target(trained: nn.Module) -> None:
    images = squares(2, 7)[0]
    places = nn.Sequential(*list(trained.children())[:6])(images).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(sum(nn.Sequential(*list(trained.children())[6:])(places)[[0, 1], [1, 0]]), places)
    by_hand = (slopes.mean((2, 3), keepdim=True) * places).sum(1, keepdim=True).relu().detach()
    by_hand = interpolate(by_hand, (32, 32), mode="bilinear").squeeze(1)
    name, layer, size = last_layer(trained, images[:1])
    assert (name, size) == ("layer2", (4, 4))
    torch.testing.assert_close(grad_cam(trained, layer, images, [1, 0]), by_hand)


@pytest.mark.parametrize(
    ("name", "pixels", "layer", "size"),
    [
        ("slim_resnet18", 128, "layer4", (4, 4)),
        ("shufflenet_v2_x0_5", 64, "stage3", (4, 4)),  # not within a block of stage4, which others go around
        ("squeezenet1_1", 128, "classifier.2", (7, 7)),  # a map of each class, before its pool
        ("mobilenet_v3_small", 128, "features", (4, 4)),
    ],
)
def test_the_layer_is_the_last_one_with_places(name: str, pixels: int, layer: str, size: tuple[int, int]) -> None:
    found = last_layer(build_backbone(name, 2).eval(), torch.zeros(1, 3, pixels, pixels))
    assert found[::2] == (layer, size)


def test_a_pool_that_repeats_places_is_not_taken_for_a_layer_with_so_many() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(196, 2)).eval()
    assert last_layer(network, torch.zeros(1, 3, 32, 32))[::2] == ("0", (4, 4))


def test_a_network_without_places_of_its_own_is_refused() -> None:
    transformer = VisionTransformer(32, 8, 1, 2, 8, 16).eval()
    for network, why in ((transformer, "transformer"), (nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), "no layer")):
        with pytest.raises(InputError, match=why):
            last_layer(network, torch.zeros(1, 3, 32, 32))
