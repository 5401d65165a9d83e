"""Spectrograms: the field's golden numbers, and slow oracles."""

import numpy as np
import pytest
import scipy.signal
import torch
import torchaudio

from cacl.model.spectrograms import LogMel, LogSpectrogram, _mel_filters, log_mel, log_spectrogram


def spectrogram_files(golden_dir):
    files = sorted(golden_dir.glob("spectrogram_*.npz"))
    assert files, f"no spectrogram_*.npz in {golden_dir}"
    return files


def test_golden_spectrograms(golden_dir):
    for file in spectrogram_files(golden_dir):
        golden = np.load(file)
        audio = torch.from_numpy(golden["audio"].astype(np.float32) / 2**15).clamp(-1, 1)
        found = log_spectrogram(audio.unsqueeze(0), int(golden["rate"]))[0]
        assert found.shape == golden["spectrogram"].shape, file.name
        # float32 in both: the logarithm of powers near 1e-7 keeps about five digits.
        np.testing.assert_allclose(found.numpy(), golden["spectrogram"], atol=2e-5, err_msg=file.name)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_log_spectrogram_is_scipys(rate):
    generator = np.random.default_rng(rate)
    audio = generator.normal(size=(3, 2 * rate)) * 0.1
    _, _, power = scipy.signal.spectrogram(audio, rate, nperseg=512, noverlap=274)
    found = log_spectrogram(torch.from_numpy(audio), rate)
    np.testing.assert_allclose(found.numpy(), np.log(power + 1e-7) / 12, atol=1e-10)


def test_log_mel_is_torchaudios():
    waveforms = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    mel = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=1024, win_length=640, hop_length=160, n_mels=40, norm="slaney", pad_mode="constant"
    )
    window = torch.hann_window(640)
    expected = (mel(waveforms) / window.square().sum() + 1e-6).log()
    torch.testing.assert_close(log_mel(waveforms, 16000, 40), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "bands", "rate"), [(1024, 64, 16000), (1024, 40, 16000), (2048, 128, 44100)]
)
def test_mel_filters_are_torchaudios(size, bands, rate):
    expected = torchaudio.functional.melscale_fbanks(size // 2 + 1, 0.0, rate / 2, bands, rate, norm="slaney")
    filters = _mel_filters(size, bands, rate, torch.device("cpu"), torch.float64)
    # torchaudio computes in float32: 1e-7 of its largest frequency, over a triangle's width in Hz
    torch.testing.assert_close(filters.float(), expected.T, rtol=0, atol=2e-3 * float(expected.max()))


def test_log_mel_features_forget_the_gain():
    waveforms = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.3
    features = LogMel()
    # The 1e-6 under the logarithm is all that knows the gain; features have deviation 1.
    torch.testing.assert_close(features(waveforms / 3), features(waveforms), atol=0.1, rtol=0)
    assert features(waveforms).shape == (2, 1, 64, 101)


@pytest.mark.parametrize("options", [LogMel(), LogMel(bands=20, rate=8000, hop=0.02)])
def test_log_mel_features_are_each_clips_own_with_mean_0_and_deviation_1(options):
    """A clip among others, of any loudness, is what it is alone: so micro-batches change nothing."""
    draw = torch.Generator().manual_seed(0)
    loudness = torch.tensor([1.0, 0.1, 0.01, 0.5])[:, None]
    waveforms = torch.randn(4, 8000, generator=draw, dtype=torch.float64) * loudness
    found = options(waveforms)
    for waveform, features in zip(waveforms, found, strict=True):
        mel = log_mel(waveform[None], options.rate, options.bands, options.hop)
        # float64, against the same arithmetic of one clip.
        torch.testing.assert_close(features, (mel - mel.mean()) / (mel.std() + 1e-3), rtol=0, atol=1e-9)
        assert features.mean().abs() < 1e-9 and abs(features.std() - 1) < 0.01


def test_a_spectrogram_is_of_the_rate_that_the_recipe_names():
    waveforms = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    expected = log_spectrogram(waveforms, 44100)
    assert torch.equal(LogSpectrogram(rate=44100)(waveforms)[:, 0], expected)
    assert not torch.equal(LogSpectrogram()(waveforms)[:, 0], expected), "a density is by Hz"


@pytest.mark.parametrize("features", [LogMel(), LogSpectrogram()])
def test_silence_is_finite_and_autocast_changes_nothing(features):
    silent = torch.zeros(2, 48000)
    assert torch.isfinite(features(silent)).all()
    loud = torch.randn(2, 48000, generator=torch.Generator().manual_seed(0))
    expected = features(loud)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(loud), expected)
