"""Frozen image classifiers by name, each in two parts: feature maps, then embedding and logits.

Axes: `n` images, `K` classes, `D` channels of an embedding, `C` channels of the last feature map and
`h` × `w` places of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cacl.errors import UserError
from cacl.model.blocks import resnet_body
from cacl.model.image import (
    CPU_CHUNK,
    EFFICIENTNET_LITE_MEAN,
    EFFICIENTNET_LITE_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
)
from cacl.model.streamline import streamline
from cacl.model.weights import (
    TORCHVISION,
    address_command,
    efficientnet_lite0,
    sha256,
    timm_network,
    torchvision_network,
)
from cacl.threads import over_threads


class Classifier(nn.Module):
    """A frozen network in two parts: pixels → feature maps → (embedding [n, D], logits [n, K])."""

    def __init__(
        self,
        name: str,
        maps: Callable[[Tensor], Tensor],
        read: Callable[[Tensor], tuple[Tensor, Tensor]],
        network: nn.Module,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.name, self.maps, self.read = name, maps, read
        self.network = network.eval().requires_grad_(False)
        self.weights = sha256(network.state_dict())
        self.classes = int(getattr(network, "num_classes", 1000))
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (feature maps [n, C, h, w], embeddings [n, D], probabilities [n, K]) of pixels in 0..1."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        if pixels.device.type != "cpu":
            return self._part(pixels)
        parts = over_threads(self._part, pixels.split(CPU_CHUNK), len(os.sched_getaffinity(0)))
        maps, embeddings, probabilities = (torch.cat(column) for column in zip(*parts, strict=True))
        return maps, embeddings, probabilities

    @torch.no_grad()
    def _part(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        device = pixels.device.type
        pixels = (pixels - self.get_buffer("mean")) / self.get_buffer("std")
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            maps = self.maps(pixels).float()
        # Read in float32: logits in bfloat16 would tie.
        embedding, logits = self.read(maps)
        return maps, embedding, logits.softmax(1)


def build_classifier(name: str, weights: str | None = None) -> Classifier:
    """Return the frozen classifier `name`: efficientnet-lite0, a name of torchvision's, or timm:NAME.

    `weights` is a file; efficientnet-lite0 needs none, "none" takes random weights.
    Raises UserError for an unknown name or missing weights.
    """
    if name == "efficientnet-lite0":
        network: Any = efficientnet_lite0(weights or "package")
        return _adapt_timm(name, network, EFFICIENTNET_LITE_MEAN, EFFICIENTNET_LITE_STD, fold=True)
    if name not in TORCHVISION and not name.startswith("timm:"):
        known = ", ".join(["efficientnet-lite0", *TORCHVISION])
        raise UserError(f"--classifier {name}: unknown; choose one of {known}, or timm:NAME")
    if weights is None:
        raise UserError(
            f"--classifier {name}: --weights: name the file of its weights; where they are published is "
            f"printed by: {address_command(name)}"
        )
    if name.startswith("timm:"):
        network = timm_network(name.removeprefix("timm:"), weights)
        return _adapt_timm(name, network, network.default_cfg["mean"], network.default_cfg["std"], fold=False)
    return _adapt_torchvision(name, torchvision_network(name, weights))


def _adapt_timm(
    name: str, network: Any, mean: tuple[float, ...], std: tuple[float, ...], fold: bool
) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        embedding = network.forward_head(maps, pre_logits=True)
        return embedding, network.get_classifier()(embedding)

    classifier = Classifier(name, network.forward_features, read, network, mean, std)
    if fold:
        streamline(network)
    return classifier


def _adapt_torchvision(name: str, network: Any) -> Classifier:
    adapt = {
        "resnet18": _adapt_resnet18,
        "alexnet": _adapt_alexnet,
        "squeezenet1_0": _adapt_squeezenet,
        "squeezenet1_1": _adapt_squeezenet,
    }
    return adapt[name](name, network)


def _adapt_resnet18(name: str, network: Any) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        embedding = maps.mean((2, 3))
        return embedding, network.fc(embedding)

    classifier = Classifier(name, resnet_body(network), read, network)
    streamline(network)
    return classifier


def _adapt_alexnet(name: str, network: Any) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        embedding = network.classifier[:-1](network.avgpool(maps).flatten(1))
        return embedding, network.classifier[-1](embedding)

    return Classifier(name, network.features, read, network)


def _adapt_squeezenet(name: str, network: Any) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        return maps.mean((2, 3)), network.classifier(maps).flatten(1)

    return Classifier(name, network.features, read, network)
