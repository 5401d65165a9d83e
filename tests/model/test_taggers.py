"""Taggers of others: right on real sounds, by a front end as published, from files that are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import scipy.signal
import soundfile
import torch
import torchvision

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.model.audio import Tagger
from cacl.model.image import SmallCnn
from cacl.model.localizer import Localizer, ModelOptions
from cacl.model.spectrograms import Waveform
from cacl.model.taggers import build_tagger
from cacl.model.taggers.efficientat import log_mel
from cacl.options import plain
from cacl.runs.load import rebuild


def sound(file: Path, rate: int) -> torch.Tensor:
    """Return 3 s of a real clip as a waveform [1, T]."""
    audio, own = soundfile.read(file, dtype="float32", always_2d=True)
    mono = scipy.signal.resample_poly(audio.mean(1), rate, own).astype("float32")
    return torch.from_numpy(mono)[None]


def test_mn04_hears_what_sounds(real_dir, monkeypatch):
    monkeypatch.setenv("CACL_MODELS", str(real_dir / "models"))
    tagger = build_tagger("mn04")
    assert tagger.sample_rate == 32_000 and len(tagger.classes) == 527
    for clip, heard in (
        ("0F04c_rY4aw_000000", {"Dog": 0.84, "Howl": 0.72}),
        ("0YTieIiZNN4_000010", {"Machine gun": 0.86}),
    ):
        probability, embedding = tagger.hear(sound(real_dir / f"vggss_pairs/{clip}.wav", 32_000))
        assert probability.shape == (1, 527) and probability.dtype == torch.float32
        assert embedding is not None and embedding.shape == (1, 384)
        for name, expected in heard.items():
            assert float(probability[0, tagger.classes.index(name)]) == pytest.approx(expected, abs=0.03)


def test_a_file_of_another_network_is_one_sentence(real_dir):
    for name, file in (("mn10", "mn04_as_mAP_432.pt"), ("mn04", "yolox_nano.onnx")):
        with pytest.raises(UserError, match=file):
            build_tagger(name, real_dir / "models" / file)


def test_the_front_end_of_mn04_is_kaldi_s():
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    noise = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0)) * 0.1
    banks, _ = kaldi.get_mel_banks(128, 1024, 32_000, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    emphasized = torch.nn.functional.conv1d(noise[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
    spectrum = torch.stft(
        emphasized, 1024, 320, 800, torch.hann_window(800, periodic=False), return_complex=True
    )
    mel = torch.nn.functional.pad(banks, (0, 1)) @ spectrum.abs().square()
    torch.testing.assert_close(log_mel(noise), ((mel + 1e-5).log() + 4.5) / 5, rtol=1e-4, atol=1e-4)


def as_published(file: Path) -> None:
    """Write random weights of mn04 as its authors write theirs: in torchvision's order, one channel in."""
    torch.manual_seed(3)
    network = torchvision.models.mobilenet_v3_large(width_mult=0.4, num_classes=527)
    first = network.features[0][0]
    first.weight = torch.nn.Parameter(first.weight[:, :1].detach().clone())
    torch.save(network.state_dict(), file)


def test_a_tagger_as_sound_network_is_frozen_but_for_the_last_layer(tmp_path):
    as_published(tmp_path / "mn04.pt")
    trunk = Tagger(weights=str(tmp_path / "mn04.pt"), hidden=8).build().train()
    sounds = torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    prepared, alone = trunk.prepare(sounds), build_tagger("mn04", tmp_path / "mn04.pt")
    embeddings = alone.hear(sounds)[1]
    assert embeddings is not None and torch.equal(prepared, embeddings)
    assert trunk(prepared).shape == (3, 8)
    learned = {name for name, value in trunk.named_parameters() if value.requires_grad}
    assert learned == {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"}


def test_a_trained_model_with_a_tagger_needs_its_file_no_more(tmp_path):
    as_published(file := tmp_path / "mn04.pt")
    options = ModelOptions(image=SmallCnn(channels=16), audio=Tagger(weights=str(file)), features=Waveform())
    model = Localizer(options, LossOptions().scalars(), seed=1).eval()
    recipe = {"model": plain(options), "loss": plain(LossOptions()), "training": {"seed": 1}}
    file.unlink()
    again = rebuild(recipe, "recipe.yaml", model.state_dict())
    sounds = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert torch.equal(model.hear(sounds), again.hear(sounds))
    with pytest.raises(UserError, match=r"mn04\.pt"):
        rebuild(recipe, "recipe.yaml", None)


def test_a_tagger_as_sound_network_refuses_sounds_that_are_not_for_it():
    with pytest.raises(UserError, match=r"model\.features\.rate: 16000 Hz, .*--sample-rate 32000"):
        ModelOptions(audio=Tagger(weights="none"), features=Waveform(rate=16_000))
    with pytest.raises(UserError, match=r"data\.augmentation\.duration: 11\.0 s, .*10 s at most"):
        Tagger(weights="none").build().prepare(torch.zeros(1, 11 * 32_000))
