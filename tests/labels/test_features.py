"""What is clustered of frames and sounds: statistics of one clip alone, and the place that a model hears."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from cacl.errors import UserError
from cacl.labels.features import AudioStatistics, Features, ModelFeatures
from cacl.labels.regions import ModelRegion
from cacl.model.audio import SmallCnn as SmallAudio
from cacl.model.image import SmallCnn as SmallImage
from cacl.model.localizer import Localizer, ModelOptions
from cacl.model.spectrograms import log_mel
from cacl.types import Batch

RATE, SAMPLES = 8000, 8000


def spectrograms(n, seed=0):
    """Noise whose level rises, and differs from clip to clip."""
    noise = torch.randn(n, SAMPLES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise * torch.linspace(0.01, 0.1, SAMPLES) * (torch.arange(n) + 1)[:, None]


def test_statistics_of_a_sound_are_those_of_its_bands_less_its_own_level():
    waveforms = spectrograms(3)
    found = AudioStatistics(RATE, bands=8)(waveforms)
    for k in range(3):
        mel = log_mel(waveforms[k : k + 1], RATE, 8, 0.02)[0].numpy()
        mel = mel - mel.mean()
        expected = []
        for statistic in (
            lambda band: band.mean(),
            lambda band: band.std(ddof=1),
            lambda band: np.array([b - a for a, b in pairwise(band)]).std(ddof=1),
        ):
            expected += [statistic(band) for band in mel]
        np.testing.assert_allclose(found[k].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_a_louder_sound_has_the_same_statistics():
    """All power is far above the 1e-6 that is added before the logarithm."""
    one, loud = (AudioStatistics(RATE)(factor * spectrograms(2)) for factor in (100, 1000))
    torch.testing.assert_close(one, loud, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def localizer():
    options = ModelOptions(image=SmallImage(channels=16), audio=SmallAudio(channels=16), dimension=8, heads=2)
    return Localizer(options, seed=3).eval()


def batch_of(n=6):
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8, generator=generator)
    waveforms = 0.1 * torch.randn(n, 16000, generator=generator)
    return Batch(torch.arange(n), images, waveforms, torch.ones(n, dtype=torch.bool))


@torch.no_grad()
def test_a_models_image_vector_is_that_of_the_place_that_both_heads_hear_most(localizer):
    batch = batch_of()
    found = ModelFeatures(localizer)(batch)
    embeddings = localizer(*localizer.prepare(batch.images, batch.waveforms))
    first_head_elsewhere = 0
    for k, (maps, audio) in enumerate(zip(embeddings.image, embeddings.audio, strict=True)):
        cosines = [[float(maps[h, p] @ audio[h]) for h in range(2)] for p in range(maps.shape[1])]
        place = max(range(len(cosines)), key=lambda p: sum(cosines[p]))
        np.testing.assert_allclose(found["image"][k], torch.cat([maps[0, place], maps[1, place]]), atol=1e-6)
        np.testing.assert_allclose(found["sound"][k], torch.cat([audio[0], audio[1]]), atol=1e-6)
        first_head_elsewhere += place != max(range(len(cosines)), key=lambda p: cosines[p][0])
    assert first_head_elsewhere, "the case tells both heads from the first"


@torch.no_grad()
def test_a_models_region_is_the_box_around_the_upper_half_of_what_it_hears(localizer):
    batch = batch_of()
    found = ModelRegion(localizer)(torch.zeros(6, 1, 1, 1), batch)
    embeddings = localizer(*localizer.prepare(batch.images, batch.waveforms))
    for k, (maps, audio) in enumerate(zip(embeddings.image, embeddings.audio, strict=True)):
        heat = sum(maps[h] @ audio[h] for h in range(2)) / 2
        side = round(len(heat) ** 0.5)
        middle = (heat.max() + heat.min()) / 2
        above = [(p % side, p // side) for p in range(len(heat)) if heat[p] >= middle]
        columns, rows = zip(*above, strict=True)
        box = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
        np.testing.assert_allclose(found[k] * side, box, atol=1e-5)


def test_features_are_read_as_they_were_written_and_not_from_another_format(tmp_path):
    rng = np.random.default_rng(0)
    image, audio = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32)
    Features(np.array([1, 4, 6]), image, audio, {"image": "a", "sound": "b"}).write(tmp_path / "f.npz")
    read = Features.load(tmp_path / "f.npz")
    assert read.index.tolist() == [1, 4, 6] and read.header == {"image": "a", "sound": "b"}
    assert np.array_equal(read.image, image) and np.array_equal(read.audio, audio)
    Features(np.array([1]), image[:1], audio[:1], {"format_version": 9}).write(tmp_path / "g.npz")
    with pytest.raises(UserError, match=r"g\.npz: format_version"):
        Features.load(tmp_path / "g.npz")
