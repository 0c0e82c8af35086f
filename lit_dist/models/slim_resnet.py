"""A small residual network, for small images and machines without a GPU."""

from collections import OrderedDict

from torch import nn
from torchvision.models.resnet import BasicBlock


def slim_resnet18(num_classes: int = 2, width: int = 32) -> nn.Sequential:
    """A ResNet-18 with fewer channels; its tensors have torchvision's names.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.

    Args:
        num_classes: The number of outputs.
        width: The number of channels of the first stage; the original has 64. With 32 there are 2.8 million parameters.

    Raises:
        ValueError: If the width is not positive.

    Example:
        >>> sum(parameter.numel() for parameter in slim_resnet18(10).parameters())
        2801450
    """
    if width < 1:
        raise ValueError(f"width={width} is not a positive number")
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    }
    channels = width
    for stage in range(4):
        layers[f"layer{stage + 1}"] = _stage(channels, width * 2**stage, stride=2 if stage else 1)
        channels = width * 2**stage
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(channels, num_classes)}
    network = nn.Sequential(OrderedDict(layers))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _stage(before: int, channels: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride > 1 or before != channels:
        shortcut = nn.Sequential(
            nn.Conv2d(before, channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(channels)
        )
    return nn.Sequential(BasicBlock(before, channels, stride, shortcut), BasicBlock(channels, channels))
