"""What image and sound towers are built of: convolutions, ResNet's stages, and activation checkpointing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cacl.errors import UserError


def run_body(body: nn.Module, x: Tensor, recompute: bool) -> Tensor:
    """Return `body(x)`; `recompute` keeps only what goes from part to part, for backward to compute the rest.

    A body that is no Sequential is timm's, which recomputes by itself.
    """
    if not recompute or not torch.is_grad_enabled() or not isinstance(body, nn.Sequential):
        return body(x)
    for part in parts(body):
        x = checkpoint(part, x, use_reentrant=False)
    return x


def parts(body: nn.Sequential) -> Iterator[nn.Sequential]:
    """Yield the parts of a Sequential (nested ones opened): a convolution or a block, and what follows it."""
    part: list[nn.Module] = []
    for child in flatten(body):
        if part and (isinstance(child, nn.Conv2d) or any(child.children())):
            yield nn.Sequential(*part)
            part = []
        part.append(child)
    yield nn.Sequential(*part)


def flatten(body: nn.Sequential) -> Iterator[nn.Module]:
    """Yield what a Sequential runs one after the other, nested ones opened."""
    for child in body:
        yield from flatten(child) if isinstance(child, nn.Sequential) else (child,)


def convolution_blocks(widths: list[int], norm: Literal["group", "batch"]) -> Iterator[nn.Module]:
    """Yield a 3×3 convolution of stride 2, a norm and a ReLU for every step of `widths`."""
    for before, after in pairwise(widths):
        if norm == "group" and after % min(8, after):
            raise UserError(
                f"small-cnn: channels: {widths[-1]} make a layer of {after} channels, which cannot be "
                "normalized in 8 groups; use a multiple of 64"
            )
        yield nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        yield nn.GroupNorm(min(8, after), after) if norm == "group" else nn.BatchNorm2d(after)
        yield nn.ReLU()


def vgg_layers(channels: int, *stages: Sequence[int]) -> nn.Sequential:
    """Return a VGG's layers, numbered as torchvision numbers them.

    `channels` go in. A stage names the channels of its 3×3 convolutions, each with a ReLU, and ends in
    maxima over 2×2 places.
    """
    layers: list[nn.Module] = []
    for stage in stages:
        for after in stage:
            layers += [nn.Conv2d(channels, after, 3, padding=1), nn.ReLU(inplace=True)]
            channels = after
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def resnet_body(network: Any) -> nn.Sequential:
    """Return a torchvision ResNet up to its last stage, under the same state names."""
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(OrderedDict((name, getattr(network, name)) for name in names))
