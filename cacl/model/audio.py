"""Sound encoders: from a spectrogram [n, 1, F, t] to one vector a clip [n, C]."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cacl.model.blocks import convolution_blocks, resnet_body, run_body
from cacl.options import Options


class AudioTrunk(nn.Module):
    """`body` maps sounds [n, 1, F, t] to vectors [n, channels]."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.channels = body, channels
        self.recompute = False

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return vectors [n, channels]."""
        return run_body(self.body, spectrograms, self.recompute)


@dataclass(frozen=True)
class SmallCnn(Options):
    """Four strided convolutions and the mean and maximum over what they leave."""

    name: Literal["small-cnn"] = "small-cnn"
    channels: Annotated[int, Field(ge=8)] = 256
    """Channels of the last convolution; the vector of a clip has twice as many."""
    norm: Literal["group", "batch"] = "group"
    """How activations are normalized: `group` does not look at other clips, `batch` does."""

    def build(self) -> AudioTrunk:
        """Return the trunk, with random weights."""
        widths = [1, self.channels // 8, self.channels // 4, self.channels // 2, self.channels]
        body = nn.Sequential(*convolution_blocks(widths, self.norm), _MeanAndMax())
        return AudioTrunk(body, 2 * self.channels)


@dataclass(frozen=True)
class ResNet18(Options):
    """ResNet-18 on one channel with a maximum over places: the paper's sound encoder, as in SLAVC."""

    name: Literal["resnet18"] = "resnet18"

    def build(self) -> AudioTrunk:
        """Return the trunk, with random weights; its state names are torchvision's."""
        from torchvision.models import resnet18

        network: Any = resnet18()
        network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        stages = OrderedDict(resnet_body(network).named_children())
        body = nn.Sequential(OrderedDict(**stages, avgpool=nn.AdaptiveMaxPool2d(1), flatten=nn.Flatten()))
        return AudioTrunk(body, 512)


AudioEncoder = Annotated[SmallCnn | ResNet18, Field(discriminator="name")]


class _MeanAndMax(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        # Not amax: its backward looks for the place that equals the maximum, and finds none where a compiler
        # computes the features again and rounds otherwise; max keeps the place.
        return torch.cat([features.mean((2, 3)), features.flatten(2).max(2).values], dim=1)
