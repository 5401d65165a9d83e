"""Taggers of others: right on real sounds, by a front end as published, from files that are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import scipy.signal
import soundfile
import torch

from cacl.errors import UserError
from cacl.model.taggers import build_tagger
from cacl.model.taggers.efficientat import log_mel


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
