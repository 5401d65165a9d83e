"""Where the sound is, by what a tagger hears and what frozen networks see: the localizer `tags`.

It is the paper's section 4.4 (b), "a pretrained audio classifier", made a model of its own. Nothing in it has
been trained on pairs of frames and sounds. Of each place it knows how much of an object is there, how likely
each class of ImageNet is (EfficientNet-Lite0, one softmax a place), and which of COCO's objects a box finds;
of a sound, how much of each of these classes is heard. The map is the product of the two, as the map of a
trained localizer is that of two embeddings, so that all that measures and shows one serves for this too.

Axes: `n` clips, `S` pixels of a side, `T` samples, `P` = `g` × `g` places, `D` = 1 + 1000 + 80 numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cacl.model.image import (
    CPU_CHUNK,
    EFFICIENTNET_LITE_MEAN,
    EFFICIENTNET_LITE_STD,
    object_map,
)
from cacl.model.model_files import model_file
from cacl.model.streamline import streamline
from cacl.model.taggers import build_tagger
from cacl.model.taggers.base import SoundTagger
from cacl.model.taggers.rates import at_rate
from cacl.model.tags.detector import Detector
from cacl.model.tags.table import IMAGENET_CLASSES, Table, read_table
from cacl.model.weights import efficientnet_lite0, sha256
from cacl.threads import over_threads
from cacl.types import Embeddings

NAME = "tags"
GRID = 28
"""Cells of the map's side, g."""


@dataclass(frozen=True)
class Settings:
    """What is chosen of the map, by `benchmarks.tags` on clips without boxes."""

    pixels: int = 320
    """Of the side of a frame that the classifier sees."""
    sharpness: float = 0.5
    """Power of the tagger's probabilities: below 1 faint classes count for more."""
    company: float = 0.25
    """Weight of what is seen with a source, next to 1 for what sounds itself."""
    breadth: float = 0.25
    """Power by which a heard class of many seen ones counts for less."""
    objects: float = 1 / 3
    """Weight of where any object is."""
    classes: float = 1 / 2
    """Weight of the classifier's classes."""
    boxes: float = 1 / 6
    """Weight of the detector's boxes."""


class TagLocalizer(nn.Module):
    """A localizer without training; it is called as `cacl.model.localizer.Localizer` is."""

    def __init__(self, tagger: SoundTagger, detector: Detector, table: Table, settings: Settings) -> None:
        super().__init__()
        network: Any = efficientnet_lite0()
        self.weights = {
            "tagger": str(tagger.weights),
            "classifier": sha256(network.state_dict()),
            "detector": detector.weights,
        }
        self.classifier: Any = network.eval().requires_grad_(False)
        streamline(self.classifier)
        self.tagger, self.detector, self.table = tagger, detector, table
        self.listener: nn.Module = tagger
        self.tune(settings)
        self.register_buffer("mean", torch.tensor(EFFICIENTNET_LITE_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(EFFICIENTNET_LITE_STD).view(3, 1, 1), persistent=False)

    def tune(self, settings: Settings) -> None:
        """Take other settings, for maps from now on."""
        self.settings = settings
        self.register_buffer("spoken", spoken_for(self.table, settings), persistent=False)

    def hear_at(self, rate: int, data: str) -> None:
        """Take sounds that `data` stores at `rate` Hz from now on.

        Raises UserError where that is less than the tagger hears.
        """
        self.listener = at_rate(self.tagger, rate, data)

    def identity(self) -> str:
        """Return a short hash of all that decides the maps: weights, table and settings."""
        table = hashlib.sha256(self.get_buffer("spoken").numpy().tobytes()).hexdigest()
        parts = json.dumps([self.weights, table, asdict(self.settings), GRID], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()[:12]

    def grid(self, image_size: int) -> tuple[int, int]:
        """Return the height and width of the map, whatever the image's size."""
        return GRID, GRID

    @torch.no_grad()
    def prepare(self, images: Tensor, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is seen [n, P, D] in frames [n, 3, S, S] uint8, and heard [n, D] in sounds [n, T]."""
        return self.see(images), self.weigh(self.listener(waveforms))

    def forward(self, seen: Tensor, heard: Tensor) -> Embeddings:
        """Return what was prepared as embeddings of one head; they are not of unit length."""
        return Embeddings(image=seen[:, None], audio=heard[:, None])

    @torch.no_grad()
    def hear(self, waveforms: Tensor) -> Tensor:
        """Return [n, 1, D] of sounds [n, T] float32."""
        return self.weigh(self.listener(waveforms))[:, None]

    def weigh(self, probabilities: Tensor) -> Tensor:
        """Return how much of each class [n, D] is heard, from the tagger's probabilities [n, A]."""
        settings = self.settings
        faint = probabilities**settings.sharpness
        spoken = (faint[:, :, None] * self.get_buffer("spoken")).amax(1)
        # The class that is spoken for most has the strength at which it, or what it is of, is heard.
        loudest = (faint * self.get_buffer("spoken").any(1)).amax(1, keepdim=True)
        spoken = spoken * loudest / spoken.amax(1, keepdim=True).clamp(min=1e-12)
        classes, boxes = spoken[:, :IMAGENET_CLASSES], spoken[:, IMAGENET_CLASSES:]
        objects = torch.full_like(loudest, settings.objects)
        return torch.cat([objects, settings.classes * classes, settings.boxes * boxes], 1)

    @torch.no_grad()
    def see(self, images: Tensor) -> Tensor:
        """Return what is at each place, [n, P, D] in 0..1, of frames [n, 3, S, S] uint8."""
        threads = len(os.sched_getaffinity(0)) if images.device.type == "cpu" else 1
        parts = over_threads(self._classify, images.split(CPU_CHUNK), threads)
        maps = torch.cat([torch.cat(part, 1) for part in parts])
        found = torch.stack([boxes.raster(GRID) for boxes in self.detector(images)]).to(maps.device)
        return torch.cat([maps, found], 1).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def _classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps [n, 1, g, g] of any object, and probabilities [n, 1000, g, g], both in 0..1."""
        size = (self.settings.pixels, self.settings.pixels)
        pixels = functional.interpolate(images, size, mode="bilinear", antialias=True).float() / 255
        pixels = (pixels - self.get_buffer("mean")) / self.get_buffer("std")
        network = self.classifier
        features = network.blocks(network.bn1(network.conv_stem(pixels)))
        objects = _spread(object_map(features)[:, None])
        low, high = objects.amin((2, 3), keepdim=True), objects.amax((2, 3), keepdim=True)
        objects = (objects - low) / torch.where(high > low, high - low, 1)
        last = network.bn2(network.conv_head(features))
        logits = torch.einsum("nchw,kc->nkhw", last, network.classifier.weight)
        probabilities = (logits + network.classifier.bias[:, None, None]).softmax(1)
        return objects, _spread(probabilities)


def spoken_for(table: Table, settings: Settings) -> Tensor:
    """Return how much each heard class speaks for each seen one, [A, 1000 + 80] in 0..1.

    What sounds itself counts fully, company by its weight, and a heard class that many seen ones could be
    (an animal) for less than one that few could be (a frog).
    """
    maker, company = torch.cat([table.imagenet, table.coco], 2)
    many = maker.sum(1, keepdim=True).clamp(min=1)
    return (maker + settings.company * company) / many**settings.breadth


def load_tags(settings: Settings = Settings()) -> TagLocalizer:
    """Return the localizer with the files of `CACL_MODELS`, or fetched ones.

    Raises UserError where they cannot be had, and MissingLibrary without onnxruntime, timm or torchvision.
    """
    detector = Detector(model_file("yolox-nano"))
    return TagLocalizer(build_tagger("mn04"), detector, read_table(), settings).eval()


def _spread(maps: Tensor) -> Tensor:
    """Return maps [n, C, h, w] on the grid of the map, [n, C, g, g]."""
    return functional.interpolate(maps, (GRID, GRID), mode="bilinear")
