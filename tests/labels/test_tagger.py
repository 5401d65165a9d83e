"""A user's tagger labels sounds by its own classes; what it gives is checked, its weights are in the header."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cacl.errors import UserError
from cacl.labels.table import LabelHeader, LabelTable
from cacl.labels.tag import ClassifyAudio, adapt_tagger, load_tagger
from cacl.model.taggers import SoundTagger
from cacl.model.weights import sha256
from cacl.types import Batch

CPU = torch.device("cpu")
RATE, SAMPLES = 8000, 4000


class Bands(torch.nn.Module):
    """Classes are bands of frequency: a sound belongs where most of its power lies."""

    def __init__(self, rate):
        super().__init__()
        self.register_buffer("edges", torch.linspace(0, rate / 2, 9))
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, waveforms):
        power = torch.fft.rfft(waveforms).abs().square()
        bands = torch.stack([part.sum(1) for part in power.tensor_split(8, dim=1)], dim=1)
        return self.dropout(bands / bands.sum(1, keepdim=True).clamp(min=1e-12))


def embedding(rate):
    return lambda waveforms: waveforms.unflatten(1, (8, -1)).std(2).log()


def flat(rate):
    return lambda waveforms: waveforms.mean(1)


def no_tensor(rate):
    return lambda waveforms: waveforms.numpy()


def breaks_on_loud(rate):
    return lambda waveforms: torch.where(waveforms.abs().amax(1, keepdim=True) > 0.5, torch.nan, 0.5).repeat(
        1, 3
    )


def batch(waveforms):
    n = len(waveforms)
    index = torch.arange(10, 10 + n)
    return Batch(
        index, torch.zeros(n, 3, 4, 4, dtype=torch.uint8), waveforms, torch.ones(n, dtype=torch.bool)
    )


def tones(*frequencies):
    time = torch.arange(SAMPLES) / RATE
    return torch.stack([torch.sin(2 * torch.pi * frequency * time) for frequency in frequencies])


def load(name):
    return load_tagger(f"{__name__}:{name}", RATE, SAMPLES, CPU)


def test_sounds_are_labeled_by_the_taggers_classes():
    tagger = load("Bands")
    assert tagger.width == 8 and tagger.weights == sha256(Bands(RATE).state_dict())
    found = ClassifyAudio(tagger, soft=True)(batch(tones(100, 750, 3900)))
    assert found["label"].tolist() == [0, 1, 7] and found["confidence"].min() > 0.9
    assert found["top"].shape == (3, 5) and found["soft"].shape == (3, 8)
    np.testing.assert_allclose(found["soft"].sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "expected ./FILE.py:FUNCTION, or MODULE:FUNCTION"),
        ("flat", r"makes a tensor \[1\] of waveforms \[1, 4000\]; expected a tensor \[1, D\]"),
        ("no_tensor", "makes ndarray of waveforms"),
    ],
)
def test_what_is_no_tagger_is_said_before_any_clip_is_read(name, message):
    with pytest.raises(UserError, match=message):
        load(name)


def test_an_embedding_is_no_prediction():
    with pytest.raises(UserError, match=r"class probabilities lie in 0\.\.1; cluster an embedding instead"):
        ClassifyAudio(load("embedding"))(batch(tones(100, 200)))


def test_a_prediction_that_is_not_finite_names_the_clip():
    waveforms = tones(100, 200, 300) * torch.tensor([[0.1], [0.9], [0.2]])
    with pytest.raises(UserError, match=r"clip 11: .*breaks_on_loud gives what is not a finite number"):
        ClassifyAudio(load("breaks_on_loud"))(batch(waveforms))


class Events(SoundTagger):
    """Two events that may sound together: something loud, and something low."""

    def __init__(self, name="events", embeds=False):
        super().__init__(name, 4000, ("loud", "low"), "w" * 64)
        self.embeds = embeds

    def _hear(self, waveforms):
        power = torch.fft.rfft(waveforms).abs().square()
        low = power[:, : power.shape[1] // 4].sum(1) / power.sum(1)
        loud = waveforms.abs().amax(1).clamp(max=1)
        return torch.stack([loud, low], 1), torch.stack([low, loud, low], 1) if self.embeds else None


def test_events_that_sound_together_keep_their_probabilities(tmp_path):
    """Rows of "soft" sum to 1, for the loss; "probability" is what the tagger gave, and stays in the file."""
    tagger = adapt_tagger(Events(), RATE, "data/x")
    assert (tagger.sample_rate, tagger.classes, tagger.weights) == (4000, ("loud", "low"), "w" * 64)
    found = ClassifyAudio(tagger, soft=True)(batch(tones(100, 300)))
    assert found["probability"].dtype == np.float16 and found["probability"].min() > 0.9
    np.testing.assert_allclose(found["soft"].sum(1), 1, atol=1e-5)
    header = LabelHeader("events", "", "f" * 64, 2)
    LabelTable(np.arange(2), header=header, **found).write(tmp_path / "t.parquet")
    read = LabelTable.load(tmp_path / "t.parquet")
    assert read.probability is not None
    np.testing.assert_array_equal(read.probability, found["probability"])
    assert read.fingerprint != replace(read, probability=None).fingerprint


def test_a_tagger_is_clustered_by_its_embedding_where_it_has_one():
    sounds = tones(100, 300)
    assert adapt_tagger(Events(embeds=True), RATE, "data/x").embedding(sounds).shape == (2, 3)
    plain = adapt_tagger(Events(), RATE, "data/x")
    torch.testing.assert_close(plain.embedding(sounds), plain(sounds).logit(eps=1e-6))
    mine = load("embedding")
    torch.testing.assert_close(mine.embedding(sounds), mine(sounds))


def test_a_table_names_a_file_without_its_folders():
    for name, short in (("onnx:/some/where/a.onnx", "onnx:a.onnx"), ("mn04", "mn04")):
        assert adapt_tagger(Events(name), RATE, "data/x").name == short
