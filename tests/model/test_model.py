"""The localizer: shapes, what is frozen, what is learned, and that a seed decides the weights alone."""

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch.nn import functional

from cacl.errors import UserError
from cacl.model import audio, heads, image
from cacl.model.localizer import Localizer, ModelOptions, localization_map
from cacl.model.spectrograms import LogMel, LogSpectrogram, VggishLogMel, Waveform
from cacl.model.streamline import Pointwise, streamline
from cacl.model.weights import efficientnet_file, load_state, sha256
from cacl.options import parse, plain

SMALL = ModelOptions(image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=32), dimension=8)
CHOICES = {
    "efficientnet-lite0": ModelOptions(),
    "efficientnet-lite0 trained, stride 32": ModelOptions(
        image=image.EfficientNetLite0(stride=32, frozen=False)
    ),
    "the paper's pair": ModelOptions(
        image=image.ResNet18(), audio=audio.ResNet18(), features=LogSpectrogram(), heads=2, dimension=512
    ),
    "resnet18 at stride 16, frozen": ModelOptions(image=image.ResNet18(stride=16, frozen=True)),
    "SSPL's pair": ModelOptions(
        image=image.VGG16(frozen=True),
        audio=audio.Vggish(),
        features=VggishLogMel(),
        head=heads.NoHead(),
        dimension=512,
    ),
    "a frozen tagger": ModelOptions(
        image=image.SmallCnn(channels=16), audio=audio.Tagger(weights="none", hidden=16), features=Waveform()
    ),
    "vgg16 trained": ModelOptions(image=image.VGG16()),
    "timm": ModelOptions(image=image.Timm(model="mobilenetv3_small_050")),
    "small": SMALL,
    "mlp": ModelOptions(image=image.SmallCnn(channels=16), head=heads.MlpHead(hidden=16)),
    "decoder": ModelOptions(image=image.SmallCnn(channels=16), head=heads.DecoderHead(hidden=16, scale=4)),
}


def inputs(n=3, size=96, samples=16000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    return images, torch.randn(n, samples, generator=generator) * 0.1


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_gives_unit_vectors_and_gradients(name):
    options = CHOICES[name]
    model = Localizer(options, {"logit_scale": 2.5, "bias": -1.0}, seed=1)
    images, waveforms = inputs(size=96)
    embeddings = model(*model.prepare(images, waveforms))
    h, w = model.grid(96)
    assert embeddings.image.shape == (3, options.heads, h * w, options.dimension)
    assert embeddings.audio.shape == (3, options.heads, options.dimension)
    for vectors in (embeddings.image, embeddings.audio):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))
    assert {key: value.item() for key, value in embeddings.scalars.items()} == {
        "logit_scale": 2.5,
        "bias": -1.0,
    }
    target = torch.randn_like(embeddings.image)
    scalars = sum(embeddings.scalars.values())
    ((embeddings.image * target).sum() * scalars + embeddings.audio[..., 0].sum()).backward()
    for key, parameter in model.named_parameters():
        frozen = options.image.frozen and key.startswith("image_trunk.")
        frozen |= key.startswith("audio_trunk.frozen.")
        assert (parameter.grad is None) == frozen, key
    assert parse(ModelOptions, plain(options), "test") == options


@pytest.mark.parametrize(
    ("options", "size", "grid"),
    [
        (image.EfficientNetLite0(), 224, (14, 14)),
        (image.EfficientNetLite0(stride=32), 224, (7, 7)),
        (image.ResNet18(), 224, (7, 7)),
        (image.ResNet18(stride=16), 224, (14, 14)),
        (image.VGG16(), 224, (14, 14)),
        (image.VGG16(), 100, (6, 6)),
        (image.SmallCnn(), 100, (7, 7)),
        (image.SmallCnn(), 64, (4, 4)),
    ],
)
def test_the_grid_is_that_of_the_map(options, size, grid):
    model = Localizer(ModelOptions(image=options, dimension=4))
    images, waveforms = inputs(1, size)
    embeddings = model(*model.prepare(images, waveforms))
    assert model.grid(size) == grid
    assert localization_map(embeddings.image, embeddings.audio).shape == (1, *grid)


def test_the_seed_decides_the_weights_and_nothing_else():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = Localizer(SMALL, seed=7)
    assert torch.equal(torch.rand(3), expected), "the global random state moved"
    second, third = Localizer(SMALL, seed=7), Localizer(SMALL, seed=8)
    assert sha256(first.state_dict()) == sha256(second.state_dict()) != sha256(third.state_dict())


def test_a_frozen_trunk_stays_in_eval_mode_and_costs_no_graph():
    model = Localizer(ModelOptions(image=image.ResNet18(frozen=True)), seed=1).train()
    assert model.training and not any(module.training for module in model.image_trunk.modules())
    images, waveforms = inputs(2)
    before = sha256(model.image_trunk.state_dict())
    prepared, spectrograms = model.prepare(images, waveforms)
    assert prepared.shape == (2, 512, 3, 3), "the frozen trunk belongs to prepare"
    assert not prepared.requires_grad and not spectrograms.requires_grad
    model(prepared, spectrograms).image.sum().backward()
    assert sha256(model.image_trunk.state_dict()) == before


@pytest.mark.parametrize("frozen", [False, True])
def test_image_dropout_sets_a_share_of_the_trunks_features_to_0_in_training_alone(frozen):
    """The heads see features of which `image_dropout` are 0 and the others larger by as much; the sounds, all."""
    trunk = image.SmallCnn(channels=16, frozen=frozen)
    options = ModelOptions(image=trunk, audio=audio.SmallCnn(channels=16), dimension=8, image_dropout=0.75)
    model, seen = Localizer(options, seed=1).train(), []
    model.image_heads[0].register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0].detach()))
    model.audio_heads[0].register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0].detach()))
    prepared = model.prepare(*inputs(8, 128))
    model(*prepared)
    model.eval()(*prepared)
    dropped, heard, whole, heard_in_eval = seen
    assert torch.equal(heard, heard_in_eval)
    there = whole != 0
    kept = dropped[there] != 0
    # Thousands of draws: a share of 1/4 is met to a few hundredths.
    assert there.sum() > 4000 and abs(kept.float().mean() - 0.25) < 0.03
    torch.testing.assert_close(dropped[there][kept], 4 * whole[there][kept])


def test_every_head_sees_the_same_features_and_writes_its_own_vectors():
    options = ModelOptions(image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), heads=3)
    model = Localizer(options, seed=1).eval()
    pixels, spectrograms = model.prepare(*inputs(2))
    features, heard = model.image_trunk(pixels), model.audio_trunk(spectrograms)
    embeddings = model(pixels, spectrograms)
    for h in range(3):
        (seen, of_image), (weight, of_audio) = (
            (head.get_parameter("weight"), head.get_parameter("bias"))
            for head in (model.image_heads[h], model.audio_heads[h])
        )
        maps = torch.einsum("nchw,dc->nhwd", features, seen[:, :, 0, 0])
        maps = (maps + of_image).flatten(1, 2)
        vectors = heard @ weight.T + of_audio
        # float32; vectors of length 1.
        torch.testing.assert_close(
            embeddings.image[:, h], functional.normalize(maps, dim=-1), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            embeddings.audio[:, h], functional.normalize(vectors, dim=-1), atol=1e-5, rtol=0
        )


def test_the_small_sound_trunk_gives_mean_and_maximum_of_what_its_convolutions_leave():
    trunk = audio.SmallCnn(channels=16).build().eval()
    spectrograms = torch.randn(2, 1, 64, 101, generator=torch.Generator().manual_seed(0))
    assert isinstance(trunk.body, torch.nn.Sequential)
    left = trunk.body[:-1](spectrograms).flatten(2)
    assert left.shape[2] > 1
    torch.testing.assert_close(trunk(spectrograms), torch.cat([left.mean(2), left.amax(2)], 1))


def test_the_papers_sound_trunk_is_torchvisions_resnet_with_a_maximum_over_places():
    torch.manual_seed(0)
    trunk = audio.ResNet18().build()
    network = torchvision.models.resnet18()
    network.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    network.fc = torch.nn.Identity()
    state = {name.removeprefix("body."): value for name, value in trunk.state_dict().items()}
    assert network.load_state_dict(state).missing_keys == []
    spectrograms = torch.randn(2, 1, 257, 60, generator=torch.Generator().manual_seed(0))
    left = []
    network.layer4.register_forward_hook(lambda layer, inputs, output: left.append(output))
    with torch.no_grad():
        network.eval()(spectrograms)
        assert left[0].shape[2:] == (9, 2)
        torch.testing.assert_close(trunk.eval()(spectrograms), left[0].flatten(2).amax(2))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "tf_efficientnet_lite0"])
def test_timms_networks_get_pixels_as_timm_says_that_they_were_trained(name):
    trunk = image.Timm(model=name).build()
    configuration = timm.get_pretrained_cfg(name)
    assert configuration is not None
    images = torch.arange(256).to(torch.uint8).repeat(3, 2, 1)[None]
    for channel in range(3):
        expected = (images[0, channel] / 255 - configuration.mean[channel]) / configuration.std[channel]
        torch.testing.assert_close(trunk.normalize(images)[0, channel], expected)


def test_the_frozen_efficientnet_is_timms_up_to_its_fifth_stage():
    network: Any = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(efficientnet_file(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    images, waveforms = inputs(6, 224)
    with torch.no_grad():
        expected = network.blocks[:5](network.bn1(network.conv_stem((images / 255 - 0.5) / 0.5)))
    found, _ = Localizer(ModelOptions(), seed=1).prepare(images, waveforms)
    # Folding BatchNorm rounds in another place; features are of the order of 1.
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_streamlining_a_frozen_network_draws_no_random_number():
    """Else whether a trunk is frozen would decide with which weights the rest begins."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()
    before = torch.random.get_rng_state()
    streamline(network)
    assert isinstance(network[0], Pointwise)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_resnet_trunk_is_torchvisions(tmp_path, frozen):
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    network(torch.randn(8, 3, 64, 64))  # BatchNorm's statistics are no longer 0 and 1
    torch.save(network.eval().state_dict(), tmp_path / "w.pth")
    options = image.ResNet18(weights=str(tmp_path / "w.pth"), frozen=frozen)
    trunk = options.build().eval()
    images, _ = inputs(2, 96)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        found = network.fc(trunk(trunk.normalize(images)).mean((2, 3)))
        expected = network((images / 255 - mean) / std)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_vgg_trunk_is_torchvisions_up_to_the_last_convolution(tmp_path):
    """Before its ReLU, as SSPL's public code cuts it; the classifier's weights are left out."""
    torch.manual_seed(0)
    network = torchvision.models.vgg16(init_weights=False).features
    state = {f"features.{name}": value for name, value in network.state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg16.pth")
    trunk = image.VGG16(weights=str(tmp_path / "vgg16.pth"), frozen=True).build()
    images, _ = inputs(2)
    pixels = trunk.normalize(images)
    with torch.no_grad():
        torch.testing.assert_close(trunk(pixels), network[:29](pixels), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"vgg16: weights: there is no file 'x'.*VGG16_Weights"):
        image.VGG16(weights="x").build()


def test_without_a_head_places_are_the_trunks_own():
    options = ModelOptions(
        image=image.SmallCnn(channels=16),
        audio=audio.SmallCnn(channels=16),
        head=heads.NoHead(),
        dimension=16,
    )
    model = Localizer(options, seed=1).eval()
    pixels, spectrograms = model.prepare(*inputs(2))
    features = model.image_trunk(pixels).flatten(2).transpose(1, 2)
    found = model(pixels, spectrograms).image[:, 0]
    torch.testing.assert_close(found, functional.normalize(features, dim=2))
    with pytest.raises(UserError, match=r"model.dimension: 8, but head none keeps the 16 channels"):
        Localizer(ModelOptions(image=image.SmallCnn(channels=16), head=heads.NoHead(), dimension=8))


@pytest.mark.parametrize(
    ("tower", "features"),
    [
        (audio.Vggish(), LogMel()),
        (audio.ResNet18(), VggishLogMel()),
        (audio.Tagger(), LogMel()),
        (audio.SmallCnn(), Waveform()),
    ],
)
def test_a_sound_network_and_its_features_go_together(tower, features):
    with pytest.raises(UserError, match="vggish and vggish-log-mel go together, tagger and waveform"):
        ModelOptions(audio=tower, features=features)


def test_weights_are_found_below_model_and_without_the_prefix_of_a_wrapper(tmp_path):
    network = torch.nn.Linear(2, 3)
    wrapped = {f"module.{name}": value for name, value in network.state_dict().items()}
    for number, content in enumerate((wrapped, {"model": wrapped, "epoch": 3}, {"state_dict": wrapped})):
        torch.save(content, tmp_path / f"{number}.pth")
        other = torch.nn.Linear(2, 3)
        load_state(other, tmp_path / f"{number}.pth")
        assert torch.equal(other.weight, network.weight) and torch.equal(other.bias, network.bias)


WRONG = {
    "lacks 'bias'": lambda state: state.pop("bias"),
    "has the unknown 'more'": lambda state: state.update(more=torch.zeros(1)),
    "has another shape of 'weight'": lambda state: state.update(weight=torch.zeros(2, 3)),
}


@pytest.mark.parametrize("said", WRONG)
def test_weights_of_another_network_are_refused(tmp_path, said):
    state = torch.nn.Linear(2, 3).state_dict()
    WRONG[said](state)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=f"these weights are of another network: the file {said}"):
        load_state(torch.nn.Linear(2, 3), tmp_path / "weights.pth")


def test_the_map_is_the_cosine_with_the_clips_own_sound():
    generator = torch.Generator().manual_seed(0)
    maps = functional.normalize(torch.randn(2, 2, 6, 5, generator=generator), dim=-1)
    audio = functional.normalize(torch.randn(2, 2, 5, generator=generator), dim=-1)
    found = localization_map(maps, audio, (2, 3))
    for n in range(2):
        for p in range(6):
            expected = sum(float(maps[n, h, p] @ audio[n, h]) for h in range(2)) / 2
            assert found[n, p // 3, p % 3].item() == pytest.approx(expected, abs=1e-6)


def test_golden_slavc_map(golden_dir):
    files = sorted(golden_dir.glob("slavc_loss*.npz"))
    assert files, f"no slavc_loss*.npz in {golden_dir}"
    for file in files:
        golden = {name: torch.from_numpy(np.asarray(value)).double() for name, value in np.load(file).items()}
        # SLAVC evaluates with the moving average of its weights: the targets of training.
        maps = torch.stack([golden["target_img1"], golden["target_img2"]], dim=1)
        audio = torch.stack([golden["target_aud1"], golden["target_aud2"]], dim=1)
        height, width = maps.shape[-2:]
        maps = functional.normalize(maps.flatten(3).transpose(2, 3), dim=-1)
        found = localization_map(maps, functional.normalize(audio, dim=-1), (height, width)) / golden["tau"]
        torch.testing.assert_close(found, golden["savl"], atol=1e-4, rtol=1e-5)


def test_copies_are_independent_and_equal():
    model = Localizer(SMALL, {"bias": 1.0}, seed=1).eval()
    other = copy.deepcopy(model)
    prepared = model.prepare(*inputs())
    assert torch.equal(model(*prepared).image, other(*prepared).image)
    fresh = Localizer(SMALL, {"bias": 3.0}, seed=2).eval()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(model(*prepared).audio, fresh(*prepared).audio)
    assert fresh(*prepared).scalars["bias"].item() == 1.0


def test_autocast_keeps_embeddings_in_float32():
    model = Localizer(SMALL, seed=1).eval()
    with torch.autocast("cpu", torch.bfloat16):
        prepared = model.prepare(*inputs())
        low = model(*prepared)
    full = model(*model.prepare(*inputs()))
    assert low.image.dtype == low.audio.dtype == torch.float32
    # bfloat16 keeps eight bits, through six layers.
    torch.testing.assert_close(low.image, full.image, atol=0.05, rtol=0)


def test_wrong_inputs_are_said_with_expected_and_received():
    model = Localizer(SMALL)
    images, waveforms = inputs()
    with pytest.raises(ValueError, match=r"expected uint8 images .* received torch.float32"):
        model.prepare(images.float(), waveforms)
    with pytest.raises(ValueError, match=r"received torch.uint8 \(3, 3, 96, 96\) and \(2, 16000\)"):
        model.prepare(images, waveforms[:2])


def test_a_map_that_timm_does_not_have_is_refused():
    with pytest.raises(
        UserError, match=r"mobilenetv3_small_050 has no map of stride 64, only \[2, 4, 8, 16, 32\]"
    ):
        image.Timm(model="mobilenetv3_small_050", stride=64).build()
    with pytest.raises(UserError, match="timm knows no 'mobilenet'"):
        image.Timm(model="mobilenet").build()
