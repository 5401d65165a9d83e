"""Taggers of others: right on real sounds, by a front end as published, from files that are checked."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

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
from cacl.model.taggers import SoundTagger, build_tagger
from cacl.model.taggers.efficientat import log_mel
from cacl.model.taggers.rates import at_rate
from cacl.options import plain
from cacl.runs.load import rebuild
from tests.model.onnx_file import write_loudness


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
    import torchaudio.compliance.kaldi as kaldi

    noise = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0)) * 0.1
    banks, _ = kaldi.get_mel_banks(128, 1024, 32_000, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    emphasized = torch.nn.functional.conv1d(noise[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
    spectrum = torch.stft(
        emphasized, 1024, 320, 800, torch.hann_window(800, periodic=False), return_complex=True
    )
    mel = torch.nn.functional.pad(banks, (0, 1)) @ spectrum.abs().square()
    torch.testing.assert_close(log_mel(noise), ((mel + 1e-5).log() + 4.5) / 5, rtol=1e-4, atol=1e-4)


def test_yamnet_hears_what_sounds(real_dir, monkeypatch):
    monkeypatch.setenv("CACL_MODELS", str(real_dir / "models"))
    tagger = build_tagger("yamnet")
    with (real_dir / "models/yamnet_class_map.csv").open(newline="") as file:
        assert list(tagger.classes) == [row["display_name"] for row in csv.DictReader(file)]
    howling = sound(real_dir / "vggss_pairs/0F04c_rY4aw_000000.wav", 16_000)
    probability = tagger(howling)[0]
    assert {"Dog", "Howl"} <= {tagger.classes[k] for k in probability.topk(4).indices.tolist()}
    # Its authors' program: the mean over windows of 0.975 s every 0.48 s, the last one filled with zeros.
    padded = torch.nn.functional.pad(howling, (0, 15_600 + 5 * 7_680 - howling.shape[1]))
    each = [tagger(padded[:, k * 7_680 : k * 7_680 + 15_600])[0] for k in range(6)]
    torch.testing.assert_close(probability, torch.stack(each).mean(0))


def test_a_tflite_file_says_no_rate(real_dir):
    name = f"tflite:{real_dir / 'models/yamnet.tflite'}"
    with pytest.raises(UserError, match=r"does not say which rate it hears; name it by --tagger-rate HZ$"):
        build_tagger(name)
    tagger = build_tagger(name, sample_rate=16_000)
    assert tagger(torch.zeros(2, 20_000)).shape == (2, 521) and tagger.sample_rate == 16_000
    with pytest.raises(UserError, match=r"mobilenet.*expected one input of waveforms.*uint8"):
        build_tagger(f"tflite:{real_dir / 'models/mobilenet_v2_1.0_224_quant.tflite'}", sample_rate=16_000)


LOUD = torch.tensor([[0.1] * 300 + [-0.5] * 100, [0.2] * 400])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(None, [[0.5, 0.2], [0.2, 0.2]]), (200, [[0.7 / 3, 0.5 / 3], [0.2, 0.2]])],
    ids=["any length", "windows"],
)
def test_an_onnx_file_hears_whole_sounds_or_windows(tmp_path, samples, expected):
    """Windows of 200 samples begin at 0, 100 and 200; scores are their mean."""
    tagger = build_tagger(f"onnx:{write_loudness(tmp_path / 'a.onnx', samples, rate=8000)}")
    assert tagger.sample_rate == 8000 and tagger.classes == ("0", "1")
    torch.testing.assert_close(tagger(LOUD), torch.tensor(expected))


def test_an_onnx_file_that_is_no_tagger_is_one_sentence(tmp_path, real_dir):
    silent = write_loudness(tmp_path / "silent.onnx")
    with pytest.raises(UserError, match=r"does not say which rate it hears"):
        build_tagger(f"onnx:{silent}")
    assert build_tagger(f"onnx:{silent}", sample_rate=16_000).sample_rate == 16_000
    with pytest.raises(UserError, match=r"yolox_nano\.onnx: expected one input of waveforms.*416"):
        build_tagger(f"onnx:{real_dir / 'models/yolox_nano.onnx'}", sample_rate=16_000)
    (tmp_path / "broken.onnx").write_bytes(silent.read_bytes()[:50])
    with pytest.raises(UserError, match=r"broken\.onnx: cannot be read as ONNX"):
        build_tagger(f"onnx:{tmp_path / 'broken.onnx'}", sample_rate=16_000)


@pytest.fixture(scope="module")
def tiny_ast(tmp_path_factory) -> Path:
    """An audio spectrogram transformer with random weights, as its library writes it."""
    import transformers as library

    folder = tmp_path_factory.mktemp("ast")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    names = {0: "Dog", 1: "Cat", 2: "Rain"}
    config = library.ASTConfig(
        **sizes, max_length=64, num_mel_bins=32, id2label=names, problem_type="multi_label_classification"
    )
    library.ASTForAudioClassification(config).save_pretrained(folder)
    library.ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(folder)
    return folder


def test_a_transformer_hears_by_its_own_front_end(tiny_ast):
    import transformers

    tagger = build_tagger(f"transformers:{tiny_ast}")
    assert (tagger.classes, tagger.sample_rate) == (("Dog", "Cat", "Rain"), 16_000)
    noise = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    probability, embedding = tagger.hear(noise)
    assert embedding is not None and embedding.shape == (2, 16)
    given = transformers.ASTFeatureExtractor.from_pretrained(tiny_ast)(
        list(noise.numpy()), sampling_rate=16_000, return_tensors="pt"
    )
    network = transformers.ASTForAudioClassification.from_pretrained(tiny_ast)
    torch.testing.assert_close(probability, network(**given).logits.sigmoid().detach())


def test_a_transformer_is_read_from_safetensors_alone(tiny_ast, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_ast, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled: cannot be loaded .*safetensors"):
        build_tagger(f"transformers:{folder}")


def test_a_lower_rate_is_accepted_only_when_asked():
    tagger = SoundTagger("mine", 32_000, ("a",), "")
    with pytest.raises(
        UserError,
        match=r"^--tagger mine: hears 32000 Hz, and data/x stores 16000; pack it again with: "
        r"cacl pack … --sample-rate 32000, or take what is there with --accept-rate$",
    ):
        at_rate(tagger, 16_000, "data/x")
    for rate, accept in ((16_000, True), (32_000, False), (44_100, False)):
        assert at_rate(tagger, rate, "data/x", accept).rate == rate


def test_sounds_of_another_rate_are_heard_as_they_are(real_dir):
    tagger = build_tagger("mn04", real_dir / "models/mn04_as_mAP_432.pt")
    clip = real_dir / "vggss_pairs/0F04c_rY4aw_000000.wav"
    expected = tagger(sound(clip, 32_000))
    for rate, tolerance in ((44_100, 0.02), (16_000, 0.2)):
        heard = at_rate(tagger, rate, "data/x", accept=True)(sound(clip, rate))
        assert (heard - expected).abs().max() < tolerance


def test_sounds_that_are_too_long_are_one_sentence():
    with pytest.raises(UserError, match=r"takes sounds of up to 10 s, not of 12\.0 s; pack them again"):
        SoundTagger("mine", 100, ("a",), "").hear(torch.zeros(1, 1200))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mn4", {}, r"^--tagger mn4: unknown; choose one of mn04, yamnet"),
        ("onnx:a.onnx", {"weights": "b"}, "names its weights itself; leave out the file b"),
        ("mn04", {"sample_rate": 8000}, "knows the rate that it hears; leave out --tagger-rate"),
        ("onnx:absent.onnx", {"sample_rate": 8000}, "there is no file 'absent.onnx'"),
        ("transformers:/", {}, "cannot be loaded"),
    ],
)
def test_what_does_not_fit_a_tagger_is_one_sentence(name, options, message):
    with pytest.raises(UserError, match=message):
        build_tagger(name, **options)


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
