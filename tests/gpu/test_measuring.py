"""Every device measures, labels, retrieves and localizes as the processor does, a clip at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cacl.annotation import Annotation, SoundSource
from cacl.evaluation.measure import measure_annotated
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS
from cacl.labels.classifier import build_classifier
from cacl.labels.classify import ClassifyFrames
from cacl.labels.features import AudioStatistics, ModelFeatures
from cacl.labels.regions import ModelRegion
from cacl.loss import LossOptions
from cacl.loss.similarities import MaxSimilarity
from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.training.validation import retrieval
from cacl.types import Batch, ClipLabels
from cacl.viewing.finder import SoundFinder
from cacl.world import World

CLIPS = 6
EVERY = PROTOCOLS | {p.name: p for controls in CONTROLS.values() for p in controls.values()}


def note(number: int) -> Annotation:
    """A clip with one object or two, or none in view, and a silent one."""
    mask = np.zeros((40, 60), np.uint8)
    mask[5 : 12 + number, 10:30] = 255
    boxes = ((0.2, 0.1, 0.5, 0.3 + 0.05 * number), (0.1, 0.4, 0.9, 0.9))[: number % 3]
    other = SoundSource("b", ((0.6, 0.5, 0.9, 0.8),), mask[::-1], audible=False, audio="other.wav")
    return Annotation(str(number), sources=(SoundSource("a", boxes, mask, visible=bool(boxes)), other))


@pytest.mark.parametrize("name", EVERY)
def test_every_protocol_measures_a_batch_as_clip_by_clip_on_the_processor(device, name):
    """A cosine off by 1e-7 moves a pixel or two of 224 x 224 across a threshold."""
    maps = torch.rand(CLIPS, 7, 7, generator=torch.Generator().manual_seed(0)) - 0.5
    notes = [note(k) for k in range(CLIPS)]
    found = measure_annotated(maps.to(device), notes, EVERY[name])
    alone = [measure_annotated(maps[k : k + 1], notes[k : k + 1], EVERY[name]) for k in range(CLIPS)]
    for column, values in found.columns.items():
        wanted = np.concatenate([one.columns[column] for one in alone])
        np.testing.assert_allclose(values, wanted, rtol=2e-3, atol=2e-3, err_msg=column)


def batch_of(n: int = CLIPS) -> Batch:
    draw = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=draw).float()
    images = torch.nn.functional.interpolate(images, (64, 64), mode="bicubic").clamp(0, 255).byte()
    waveforms = 0.1 * torch.randn(n, 16000, generator=draw)
    return Batch(torch.arange(n), images, waveforms, torch.ones(n, dtype=torch.bool))


def on(batch: Batch, device: torch.device) -> Batch:
    return replace(batch, images=batch.images.to(device), waveforms=batch.waveforms.to(device))


def rows_of(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.index[rows], batch.images[rows], batch.waveforms[rows], batch.valid[rows])


def localizer() -> Localizer:
    options = ModelOptions(
        image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), dimension=8, heads=2
    )
    return Localizer(options, seed=3).eval()


@pytest.mark.parametrize("region", [None, "model"])
def test_labels_are_those_of_the_processor(device, region):
    """A GPU's classifier computes in bfloat16: 2^-9 of an activation in each of 18 layers."""
    batch, model, classifier = batch_of(), localizer(), build_classifier("resnet18", "none")
    work = ClassifyFrames(classifier, region=region and ModelRegion(model), soft=True)
    wanted = np.concatenate([work(rows_of(batch, slice(k, k + 1)))["soft"] for k in range(CLIPS)])
    classifier.to(device), model.to(device)
    found = work(on(batch, device))
    np.testing.assert_allclose(found["soft"], wanted, rtol=0.1, atol=1e-5)
    chosen = np.take_along_axis(wanted, found["label"][:, None], 1)[:, 0]
    assert (chosen >= 0.9 * wanted.max(1)).all()


def test_vectors_for_clustering_are_those_of_the_processor(device):
    batch, model = batch_of(), localizer()
    alone = [ModelFeatures(model)(rows_of(batch, slice(k, k + 1))) for k in range(CLIPS)]
    statistics = AudioStatistics(16000)(batch.waveforms.double())
    found = ModelFeatures(model.to(device))(on(batch, device))
    for name, vectors in found.items():
        np.testing.assert_allclose(vectors, np.concatenate([one[name] for one in alone]), rtol=0, atol=1e-3)
    own = AudioStatistics(16000)(batch.waveforms.to(device))
    torch.testing.assert_close(own.cpu().double(), statistics, rtol=1e-3, atol=1e-3)


def test_a_validation_retrieves_as_on_the_processor(device):
    """Ranks of similarities: a near tie may fall the other way, of which these clips have none."""
    batch, model, loss = batch_of(12), localizer(), LossOptions(similarity=MaxSimilarity())

    def measure(where: torch.device, size: int) -> dict[str, float] | None:
        def join_labels(index: torch.Tensor, valid: torch.Tensor) -> ClipLabels:
            return ClipLabels(index, index % 3, torch.ones(len(index)), valid).to(where)

        def embed(some: Batch) -> Any:
            some = on(some, where)
            return model(*model.prepare(some.images, some.waveforms))

        pieces = (rows_of(batch, slice(k, k + size)) for k in range(0, 12, size))
        return retrieval(embed, pieces, join_labels, loss, World(device=where))

    wanted = measure(torch.device("cpu"), 1)
    model.to(device)
    assert measure(device, 4) == wanted


def test_a_picture_of_ones_own_is_localized_as_on_the_processor(device):
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(2)]
    windows = [draw.normal(0, 0.1, 16000).astype(np.float32) for _ in range(2)]
    finder = SoundFinder(localizer(), image_size=64, duration=1.0)
    alone = [
        finder.map(picture, window, finder.sample_rate)
        for picture, window in zip(pictures, windows, strict=True)
    ]
    finder.model.to(device)
    np.testing.assert_allclose(finder.maps(pictures, windows), np.stack(alone), rtol=0, atol=1e-3)
