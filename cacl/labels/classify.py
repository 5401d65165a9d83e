"""Pseudo-labels from a frozen image classifier.

Axes: `n` clips, `S` pixels of a side, `K` classes, `k` best classes kept, `D` channels of an embedding, `C`
channels of the last feature map and `h` × `w` places of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cacl.errors import UserError
from cacl.labels.regions import Region, cut
from cacl.model.blocks import resnet_body
from cacl.model.image import IMAGENET_MEAN, IMAGENET_STD
from cacl.model.streamline import streamline
from cacl.model.weights import (
    TORCHVISION,
    address_command,
    efficientnet_lite0,
    sha256,
    timm_network,
    torchvision_network,
)
from cacl.resumable import Arrays, require_finite
from cacl.threads import over_threads
from cacl.types import Batch

KEPT = 5
"""Best classes that a table keeps for every clip."""

_CPU_CHUNK = 4
"""Images of one thread at a time on a CPU, so that activations stay in its cache (faster than 1 or 8)."""

Views = Literal["whole", "mirrored", "crops"]


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
        parts = over_threads(self._part, pixels.split(_CPU_CHUNK), len(os.sched_getaffinity(0)))
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
        half = (0.5, 0.5, 0.5)
        return _of_timm(name, efficientnet_lite0(weights or "package"), half, half, fold=True)
    if name not in TORCHVISION and not name.startswith("timm:"):
        known = ", ".join(["efficientnet-lite0", *TORCHVISION])
        raise UserError(f"--classifier {name}: unknown; choose one of {known}, or timm:NAME")
    if weights is None:
        raise UserError(
            f"--classifier {name}: --weights: name the file of its weights; where they are published is "
            f"printed by: {address_command(name)}"
        )
    if name.startswith("timm:"):
        network: Any = timm_network(name.removeprefix("timm:"), weights)
        return _of_timm(name, network, network.default_cfg["mean"], network.default_cfg["std"], fold=False)
    return _of_torchvision(name, torchvision_network(name, weights))


@dataclass(frozen=True)
class ClassifyFrames:
    """Work for `map_units`: labels of the frames of a batch."""

    classifier: Classifier
    views: Views = "whole"
    region: Region | None = None
    soft: bool = False
    embeddings: bool = False

    def __call__(self, batch: Batch) -> Arrays:
        """Return "label", "confidence", "top", "top_probability", and "soft", "embedding" where asked.

        Both kinds of vectors are means over the views. Raises UserError where a prediction is not finite.
        """
        pixels = batch.images.float() / 255
        if self.region is not None:
            maps, _, _ = self.classifier(pixels)
            pixels = cut(pixels, self.region(maps, batch))
        seen = [self.classifier(view) for view in look(pixels, self.views)]
        embedding = torch.stack([embedding for _, embedding, _ in seen]).mean(0)
        probability = torch.stack([probability for _, _, probability in seen]).mean(0)
        arrays = predictions(probability, self.soft)
        arrays |= {"embedding": embedding.cpu().numpy()} if self.embeddings else {}
        require_finite(arrays, batch, f"the classifier {self.classifier.name}")
        return arrays


def predictions(probability: Tensor, soft: bool) -> Arrays:
    """Return a label table's columns from probabilities [n, K]; of equal ones the lower class is the better.

    "label" [n], "confidence" [n], "top" and "top_probability" [n, k], and "soft" [n, K] where asked.
    """
    order = probability.sort(dim=1, descending=True, stable=True)
    top, best = order.indices[:, :KEPT], order.values[:, :KEPT]
    columns = {"label": top[:, 0], "confidence": best[:, 0], "top": top, "top_probability": best}
    columns |= {"soft": probability} if soft else {}
    return {name: column.cpu().numpy() for name, column in columns.items()}


def look(pixels: Tensor, views: Views) -> list[Tensor]:
    """Return views of frames [n, 3, S, S]: whole, mirrored, and four crops of three quarters' side."""
    if views == "whole":
        return [pixels]
    seen = [pixels, pixels.flip(-1)]
    if views == "crops":
        side = pixels.shape[-1]
        cut_side = round(0.75 * side)
        ends = (slice(None, cut_side), slice(side - cut_side, None))
        crops = [pixels[..., rows, columns] for rows in ends for columns in ends]
        seen += [functional.interpolate(crop, (side, side), mode="bicubic").clamp(0, 1) for crop in crops]
    return seen


def _of_timm(
    name: str, network: Any, mean: tuple[float, ...], std: tuple[float, ...], fold: bool
) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        embedding = network.forward_head(maps, pre_logits=True)
        return embedding, network.get_classifier()(embedding)

    classifier = Classifier(name, network.forward_features, read, network, mean, std)
    if fold:
        streamline(network)
    return classifier


def _of_torchvision(name: str, network: Any) -> Classifier:
    return {"resnet18": _resnet18, "alexnet": _alexnet, "squeezenet1_1": _squeezenet}[name](name, network)


def _resnet18(name: str, network: Any) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        embedding = maps.mean((2, 3))
        return embedding, network.fc(embedding)

    classifier = Classifier(name, resnet_body(network), read, network)
    streamline(network)
    return classifier


def _alexnet(name: str, network: Any) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        embedding = network.classifier[:-1](network.avgpool(maps).flatten(1))
        return embedding, network.classifier[-1](embedding)

    return Classifier(name, network.features, read, network)


def _squeezenet(name: str, network: Any) -> Classifier:
    def read(maps: Tensor) -> tuple[Tensor, Tensor]:
        return maps.mean((2, 3)), network.classifier(maps).flatten(1)

    return Classifier(name, network.features, read, network)
