"""Spectrograms: the field's golden numbers, and slow oracles."""

import numpy as np
import pytest
import scipy.signal
import torch
import torchaudio
from torch import nn

from cacl.errors import UserError
from cacl.model.audio import Vggish
from cacl.model.spectrograms import (
    LogMel,
    LogSpectrogram,
    VggishLogMel,
    _mel_filters,
    log_mel,
    log_spectrogram,
    vggish_log_mel,
)


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


def vggish_by_hand(samples):
    """VGGish's log-mel [t, 64] of one waveform at 16 kHz, frame by frame and band by band."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)  # periodic

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(mel(125), mel(7500), 66)
    rows = []
    for start in range(0, len(samples) - 399, 160):
        magnitude = np.abs(np.fft.rfft(samples[start : start + 400] * window, 512))
        row = []
        for left, peak, right in zip(edges, edges[1:], edges[2:], strict=False):
            heard = 0.0
            for number in range(1, 257):  # not the constant, as in HTK
                place = mel(number * 16000 / 512)
                heard += (
                    max(0, min((place - left) / (peak - left), (right - place) / (right - peak)))
                    * (magnitude[number])
                )
            row.append(np.log(heard + 0.01))
        rows.append(row)
    return np.array(rows)


def test_vggishs_log_mel_is_its_definition():
    audio = np.random.default_rng(0).normal(size=(2, 4321)) * 0.1
    found = vggish_log_mel(torch.from_numpy(audio))
    np.testing.assert_allclose(found.numpy(), [vggish_by_hand(samples) for samples in audio], atol=1e-10)


def test_vggishs_examples_are_whole_and_follow_each_other():
    waveforms = torch.randn(2, 48000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    examples, frames = VggishLogMel()(waveforms), vggish_log_mel(waveforms)
    assert examples.shape == (2, 3, 96, 64) and frames.shape == (2, 298, 64)
    assert torch.equal(examples[:, 2], frames[:, 192:288]), "the last ten frames fill no example"
    with pytest.raises(UserError, match=r"15599 samples hold no example of VGGish, which takes 0.975 s"):
        VggishLogMel()(torch.zeros(2, 15599))
    assert VggishLogMel()(torch.zeros(2, 15600)).shape == (2, 1, 96, 64)


def test_a_stretched_sound_spans_its_range():
    """SSPL's: less its least sample, over its largest and 0.001, to -1..1; silence is then -1."""
    waveforms = torch.tensor([[0.1, -0.3, 0.5]], dtype=torch.float64).repeat(1, 5200)
    expected = 2 * ((waveforms + 0.3) / (0.8 + 1e-3) - 0.5)
    assert torch.equal(VggishLogMel(stretch=True)(waveforms), VggishLogMel()(expected))
    silent = VggishLogMel(stretch=True)(torch.zeros(1, 15600))
    assert torch.equal(silent, VggishLogMel()(torch.full((1, 15600), -1.0)))


def test_vggish_is_its_layers_on_each_example_and_learns_the_last_alone():
    torch.manual_seed(0)
    trunk = Vggish(hidden=8).build().train()
    examples = torch.randn(2, 3, 96, 64)
    prepared = trunk.prepare(examples)
    assert prepared.shape == (2, 3, 128) and not prepared.requires_grad
    assert trunk.frozen is not None and not trunk.frozen.training
    state = trunk.frozen.state_dict()
    x, number = examples[1, 2][None, None], 0
    for pooled in (True, True, False, True, False, True):
        x = nn.functional.conv2d(
            x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1
        )
        x, number = x.relu(), number + 2
        if pooled:
            x, number = nn.functional.max_pool2d(x, 2), number + 1
    rows = torch.cat([x[0, :, i, j] for i in range(6) for j in range(4)])  # channels innermost
    for layer in (0, 2, 4):
        rows = (state[f"embeddings.{layer}.weight"] @ rows + state[f"embeddings.{layer}.bias"]).relu()
    torch.testing.assert_close(prepared[1, 2], rows, rtol=1e-4, atol=1e-6)
    learned = {name: p for name, p in trunk.named_parameters() if p.requires_grad}
    assert learned.keys() == {"body.0.weight", "body.0.bias"}
    expected = (prepared @ learned["body.0.weight"].T + learned["body.0.bias"]).relu()
    torch.testing.assert_close(trunk(prepared), expected.mean(1))


def test_vggishs_weights_are_a_file_in_torchvggishs_names(tmp_path):
    layers = {0: (64, 1), 3: (128, 64), 6: (256, 128), 8: (256, 256), 11: (512, 256), 13: (512, 512)}
    state = {f"features.{k}.weight": torch.randn(*sizes, 3, 3) for k, sizes in layers.items()}
    state |= {f"features.{k}.bias": torch.randn(sizes[0]) for k, sizes in layers.items()}
    widths = {0: (4096, 512 * 4 * 6), 2: (4096, 4096), 4: (128, 4096)}
    state |= {f"embeddings.{k}.weight": torch.zeros(sizes) for k, sizes in widths.items()}
    state |= {f"embeddings.{k}.bias": torch.randn(sizes[0]) for k, sizes in widths.items()}
    file = tmp_path / "vggish-10086976.pth"
    torch.save(state, file)
    trunk = Vggish(weights=str(file)).build()
    assert trunk.frozen is not None
    assert all(torch.equal(trunk.frozen.state_dict()[name], value) for name, value in state.items())
    with pytest.raises(
        UserError, match=r"vggish: weights: there is no file .*none\.pth.*harritaylor/torchvggish"
    ):
        Vggish(weights=str(tmp_path / "none.pth")).build()


@pytest.mark.parametrize("features", [LogMel(), LogSpectrogram(), VggishLogMel(), VggishLogMel(stretch=True)])
def test_silence_is_finite_and_autocast_changes_nothing(features):
    silent = torch.zeros(2, 48000)
    assert torch.isfinite(features(silent)).all()
    loud = torch.randn(2, 48000, generator=torch.Generator().manual_seed(0))
    expected = features(loud)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(loud), expected)
