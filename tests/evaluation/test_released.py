"""Released checkpoints become runs; what does not match is listed and nothing is written."""

import json

import pytest
import torch

import cacl
from cacl.errors import UserError
from cacl.evaluation.released import EZ_VSL, recognize
from cacl.model import Localizer
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
    for which, prefix in (("model", ""), ("ema", "momentum_")):
        model = cacl.load(run, which).model
        assert torch.equal(model.image_heads[1].weight, slavc[f"module.{prefix}img_proj2.weight"])
    assert main(["import", str(file), "--out", str(run)]) == 2


def test_golden_slavc_checkpoint_with_faults_is_listed(slavc, tmp_path, capsys):
    broken = dict(slavc)
    del broken["module.aud_proj1.bias"]
    broken["module.img_proj1.bias"] = torch.zeros(3)
    file, run = tmp_path / "broken.pth", tmp_path / "run"
    torch.save(broken, file)
    assert main(["import", str(file), "--out", str(run)]) == 2
    message = capsys.readouterr().err
    assert "2 tensors do not match SLAVC" in message
    assert "model: lacks sound_heads.0.bias" in message
    assert "model: image_heads.0.bias is [3], ours is [512]" in message
    assert not run.exists()


def test_ez_vsl_by_its_names():
    ours = Localizer(EZ_VSL, seed=1).state_dict()
    theirs = {"image_trunk.body": "imgnet", "image_heads.0": "img_proj"}
    theirs |= {"sound_trunk.body": "audnet", "sound_heads.0": "aud_proj"}
    state = {}
    for name, value in ours.items():
        part = next(part for part in theirs if name.startswith(part))
        state[f"module.{theirs[part]}{name.removeprefix(part)}"] = value
    released = recognize(state)
    assert released.kind == "EZ-VSL"
    assert released.unmatched() == []
    assert all(torch.equal(released.states["model"][name], value) for name, value in ours.items())


def test_anything_else_is_refused():
    with pytest.raises(UserError, match="neither SLAVC's checkpoint nor EZ-VSL's"):
        recognize({"encoder.weight": torch.zeros(1)})
