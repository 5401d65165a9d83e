"""What can be measured: a model by its maps, and a box in the middle of the frame.

Axes: `n` clips of a batch, `h`, `w` cells of a map, `S` pixels of an image's side, `T` samples of sound.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable

import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.protocols.base import Protocol, Truths
from cacl.model.localizer import localization_map
from cacl.threads import over_threads
from cacl.types import Embeddings

Maps = Callable[[Tensor, Tensor], Tensor]
"""From frames [n, 3, S, S] uint8 and waveforms [n, T] to maps [n, h, w] of cosines, in -1..1."""

System = Callable[[Tensor, Tensor, Truths, Protocol], dict[str, Tensor]]
"""From frames, waveforms, the clips' truths and a protocol to the protocol's columns [n]."""

CPU_PIECE = 32
"""Clips whose pixels are measured at once on a CPU."""


class SoundLocalizer(typing.Protocol):
    """What is evaluated. `cacl.model.localizer.Localizer` is one."""

    def prepare(self, images: Tensor, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 frames [n, 3, S, S] and waveforms [n, T] into what the model takes."""

    def __call__(self, images: Tensor, spectrograms: Tensor) -> Embeddings:
        """Embed a batch."""


def maps_of(model: SoundLocalizer) -> Maps:
    """Return a model's maps: the mean over heads of cosines."""

    @torch.inference_mode()
    def maps(images: Tensor, waveforms: Tensor) -> Tensor:
        embeddings = model(*model.prepare(images, waveforms))
        return localization_map(embeddings.image, embeddings.audio)

    return maps


def system_of(maps: Maps) -> System:
    """Return the system that looks where `maps` are highest."""

    def measure(images: Tensor, waveforms: Tensor, truths: Truths, protocol: Protocol) -> dict[str, Tensor]:
        found = maps(images, waveforms).float() if len(images) else images.new_zeros(0, 1, 1).float()
        return measure_maps(found, truths, protocol)

    return measure


def centered_box(images: Tensor, waveforms: Tensor, truths: Truths, protocol: Protocol) -> dict[str, Tensor]:
    """Return the columns of a model that always points at the middle of the frame.

    Its map falls off with the distance to the middle, in rings. The top 50 % is a square of half the image's
    area; as many pixels as the truth has are those, the last ring in part.
    """
    size, device = protocol.size, next(iter(truths.values())).device
    offset = (torch.arange(size, device=device) + 0.5 - size / 2).abs()
    distance = torch.maximum(offset[:, None], offset)
    shape = len(images), size, size
    columns = protocol.measure((1 - distance / size).expand(shape), truths)
    if "ciou_top50" in columns:
        half = distance < int(size * math.sqrt(0.5)) / 2
        columns["ciou_top50"] = metrics.ciou_per_clip(half.expand(shape), truths["boxes"])
    if "ciou_adaptive" in columns:
        untied = -distance.flatten().argsort(stable=True).argsort().view(size, size).float()
        part = metrics.area_prediction(untied.expand(shape), metrics.covered(truths["boxes"]))
        columns["ciou_adaptive"] = metrics.ciou_per_clip(part, truths["boxes"])
    return columns


def measure_maps(maps: Tensor, truths: Truths, protocol: Protocol) -> dict[str, Tensor]:
    """Return the columns [n] of `maps` [n, h, w] of cosines, measured at the protocol's pixels.

    On a CPU every thread takes a few clips at a time, so that their pixels stay in its cache. Raises
    ValueError for maps that are not finite or not of the same clips.
    """
    for truth in truths.values():
        metrics.validate(maps, truth)
    if maps.device.type != "cpu":
        return protocol.measure(protocol.score_maps(maps), truths)

    def piece(first: int) -> dict[str, Tensor]:
        rows = slice(first, first + CPU_PIECE)
        part = {name: truth[rows] for name, truth in truths.items()}
        return protocol.measure(protocol.score_maps(maps[rows]), part)

    parts = over_threads(piece, range(0, max(1, len(maps)), CPU_PIECE))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
