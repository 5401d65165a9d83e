"""Released checkpoints become runs; what does not match is listed and nothing is written."""

import json
import math

import numpy as np
import pytest
import torch
import torchvision

import cacl
from cacl.errors import UserError
from cacl.evaluation.systems import maps_of
from cacl.model.localizer import Localizer
from cacl.released.recognize import EZ_VSL, recognize
from launch.main import main


@pytest.fixture(scope="module")
def slavc(golden_dir):
    shapes = json.loads((golden_dir / "slavc_checkpoint_keys.json").read_text())
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        if not shape:
            state[f"module.{name}"] = torch.tensor(0)
        else:
            state[f"module.{name}"] = 0.05 * torch.rand(shape, generator=generator)
    return state


def test_golden_slavc_checkpoint_becomes_a_run(slavc, tmp_path, capsys):
    file, run = tmp_path / "best.pth", tmp_path / "run"
    torch.save({"model": slavc, "epoch": 3}, file)
    assert main(["import", str(file), "--out", str(run), "--protocol", "slavc-compat"]) == 0
    assert "SLAVC, model and ema; every tensor matched" in capsys.readouterr().out
    for prefix, finder in (("", cacl.load(run, "model")), ("momentum_", cacl.load(run, "ema"))):
        assert isinstance(finder.model, Localizer)
        found = finder.model.image_heads[1].get_parameter("weight")
        assert torch.equal(found, slavc[f"module.{prefix}img_proj2.weight"])
    assert main(["import", str(file), "--out", str(run)]) == 2


def drawn(shapes):
    """Return a state dict of these names and shapes with values as of a trained ResNet."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if not shape:
            state[name] = torch.tensor(1)
        elif len(shape) > 1:
            state[name] = noise * (2 / math.prod(shape[1:])) ** 0.5
        else:
            positive = name.endswith("running_var") or (".bn" in name and name.endswith("weight"))
            state[name] = 1 + 0.1 * noise.abs() if positive else 0.1 * noise
    return state


def slavc_trunk(state, name, inputs):
    """Return a trunk's last features, by torchvision's network under SLAVC's names."""
    network = torchvision.models.resnet18()
    network.conv1 = torch.nn.Conv2d(inputs.shape[1], 64, 7, stride=2, padding=3, bias=False)
    network.fc = torch.nn.Identity()
    own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    network.load_state_dict(own)
    return torch.nn.Sequential(*list(network.eval().children())[:-2])(inputs)


def slavc_map(images, spectrograms, tau):
    """Return SLAVC's map from both heads' images [n, D, h, w] and sounds [n, D]."""
    normalize = torch.nn.functional.normalize
    maps = [
        torch.einsum("ndhw,nd->nhw", normalize(v), normalize(a))
        for v, a in zip(images, spectrograms, strict=True)
    ]
    return sum(maps) / len(maps) / tau


@torch.no_grad()
def test_golden_forward_of_an_imported_checkpoint_is_that_of_slavc(golden_dir, tmp_path):
    """Parity on a state dict of the released form. SLAVC's own map is golden, its networks torchvision's."""
    for file in sorted(golden_dir.glob("slavc_loss*.npz")):
        golden = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(file).items()}
        images, sounds = ([golden[f"target_{kind}{head}"] for head in (1, 2)] for kind in ("img", "aud"))
        found = slavc_map(images, sounds, golden["tau"])
        torch.testing.assert_close(found, golden["savl"], atol=1e-4, rtol=1e-5)
    state = drawn(json.loads((golden_dir / "slavc_checkpoint_keys.json").read_text()))
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "best.pth")
    assert main(["import", str(tmp_path / "best.pth"), "--out", str(tmp_path / "run")]) == 0

    finder = cacl.load(tmp_path / "run", "ema")
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=generator)
    waveforms = 0.1 * torch.randn(2, finder.samples, generator=generator)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    seen = slavc_trunk(state, "momentum_imgnet", (frames / 255 - mean) / std)
    _, spectrograms = finder.model.prepare(frames, waveforms)
    heard = slavc_trunk(state, "momentum_audnet", spectrograms.reshape(2, 1, 257, -1)).amax((2, 3))
    layers = [
        {part: (state[f"momentum_{part}_proj{head}.weight"], state[f"momentum_{part}_proj{head}.bias"])
         for part in ("img", "aud")}
        for head in (1, 2)
    ]  # fmt: skip
    images = [torch.nn.functional.conv2d(seen, *layer["img"]) for layer in layers]
    sounds = [torch.nn.functional.linear(heard, *layer["aud"]) for layer in layers]
    expected = slavc_map(images, sounds, tau=0.03)
    found = maps_of(finder.model)(frames, waveforms) / 0.03
    assert expected.std() > 0.1  # places differ, so that agreement says something
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)  # of cosines / 0.03, in float32


def test_golden_slavc_checkpoint_with_faults_is_listed(slavc, tmp_path, capsys):
    broken = dict(slavc)
    del broken["module.aud_proj1.bias"]
    broken["module.img_proj1.bias"] = torch.zeros(3)
    file, run = tmp_path / "broken.pth", tmp_path / "run"
    torch.save(broken, file)
    assert main(["import", str(file), "--out", str(run)]) == 2
    message = capsys.readouterr().err
    assert "2 tensors do not match SLAVC" in message
    assert "model: lacks audio_heads.0.bias" in message
    assert "model: image_heads.0.bias is [3], ours is [512]" in message
    assert not run.exists()


def one_head() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return a state in our names and in those that EZ-VSL and FNAC share."""
    ours = Localizer(EZ_VSL, seed=1).state_dict()
    theirs = {"image_trunk.body": "imgnet", "image_heads.0": "img_proj"}
    theirs |= {"audio_trunk.body": "audnet", "audio_heads.0": "aud_proj"}
    state = {}
    for name, value in ours.items():
        part = next(part for part in theirs if name.startswith(part))
        state[f"module.{theirs[part]}{name.removeprefix(part)}"] = value
    return ours, state


@pytest.mark.parametrize(("method", "kind"), [("ez-vsl", "EZ-VSL"), ("fnac", "FNAC")])
def test_ez_vsl_and_fnac_are_told_apart_by_an_argument(method, kind, tmp_path, capsys):
    ours, state = one_head()
    released = recognize(state, method)
    assert released.kind == kind and released.unmatched() == []
    assert all(torch.equal(released.states["model"][name], value) for name, value in ours.items())
    file, run = tmp_path / "best.pth", tmp_path / "run"
    torch.save({"model": state}, file)
    assert main(["import", str(file), "--out", str(run)]) == 2
    message = capsys.readouterr().err
    assert "ez-vsl or fnac" in message and "--method" in message and str(file) in message
    assert main(["import", str(file), "--out", str(run), "--method", method]) == 0
    assert f"{kind}, model; every tensor matched" in capsys.readouterr().out


def test_a_method_that_the_names_contradict_is_refused(slavc):
    with pytest.raises(UserError, match="--method fnac: the names are those of slavc"):
        recognize(slavc, "fnac")
    with pytest.raises(UserError, match="--method slavc: the names are those of ez-vsl or fnac"):
        recognize(one_head()[1], "slavc")


def test_anything_else_is_refused():
    with pytest.raises(UserError, match="none of slavc, ez-vsl, fnac"):
        recognize({"encoder.weight": torch.zeros(1)})
