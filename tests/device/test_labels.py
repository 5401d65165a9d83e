"""Labels are made on the device, and joined to clips where their indices lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cacl.labels.classifier import build_classifier
from cacl.labels.classify import ClassifyFrames
from cacl.labels.features import AudioStatistics, ClipFeatures, ModelFeatures
from cacl.labels.regions import ModelRegion, object_region
from cacl.labels.table import LabelHeader, LabelTable
from cacl.labels.tag import ClassifyAudio, load_tagger
from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.resumable import Arrays
from cacl.types import Batch
from launch.jobs.data import label_joiner
from tests.device.crossings import LABELS
from tests.device.flow import DEVICE, DeviceFlow

SAMPLES, SIDE = 4000, 64


def batch() -> Batch:
    """Clips as `map_clips` hands them over: pictures and sounds on the device."""
    generator = torch.Generator().manual_seed(0)
    return Batch(
        index=torch.arange(3),
        images=torch.randint(0, 255, (3, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8).to(DEVICE),
        waveforms=(torch.rand(3, SAMPLES, generator=generator) - 0.5).to(DEVICE),
        valid=torch.ones(3, dtype=torch.bool),
    )


class Bands(torch.nn.Module):
    """A tagger of the user's, with a weight: the share of power in each quarter of the frequencies."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(4))

    def forward(self, waveforms):
        power = torch.fft.rfft(waveforms).abs().square()[:, :2000].unflatten(1, (4, -1)).sum(2) * self.weight
        return power / power.sum(1, keepdim=True)


def model() -> Localizer:
    options = ModelOptions(image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), dimension=8)
    return Localizer(options).eval().to(DEVICE)


def test_whatever_labels_works_on_the_device_and_gives_arrays():
    with DeviceFlow(LABELS) as flow:
        classifier = build_classifier("resnet18", "none").to(DEVICE)
        frames = ClassifyFrames(classifier, "crops", object_region, soft=True, embeddings=True)
        tagger = load_tagger(f"{__name__}:Bands", 16000, SAMPLES, DEVICE)
        works: dict[str, Callable[[Batch], Arrays]] = {
            "frames": frames,
            "frames where a model hears something": ClassifyFrames(classifier, region=ModelRegion(model())),
            "sounds": ClassifyAudio(tagger, soft=True),
            "vectors of both": ClipFeatures(frames, AudioStatistics(16000)),
            "a model's vectors": ModelFeatures(model()),
        }
        for name, work in works.items():
            assert all(isinstance(rows, np.ndarray) and len(rows) == 3 for rows in work(batch()).values()), (
                name
            )
    assert flow.crossed == LABELS.keys()


@pytest.mark.parametrize("soft", [False, True])
def test_labels_are_joined_where_the_indices_lie(soft):
    header = LabelHeader("a", "", "b", 2)
    rows = np.full((2, 2), 0.5, np.float32) if soft else None
    table = LabelTable(np.array([1, 4]), np.array([0, 1]), np.ones(2, np.float32), header, soft=rows)
    index, valid = torch.tensor([4, 2]), torch.tensor([True, True])
    with DeviceFlow() as flow:
        for place in (torch.device("cpu"), DEVICE):
            clips = table.clips(index.to(place), valid.to(place))
            parts = [clips.index, clips.label, clips.confidence, clips.valid]
            parts += [] if clips.soft is None else [clips.soft]
            assert {part.device for part in parts} == {place} and len(parts) == 4 + soft
        clips = label_joiner(table, DEVICE)(index, valid)
        assert clips.label.device == DEVICE and (clips.soft is None or clips.soft.device == DEVICE)
    assert not flow.crossed
