"""SLAVC's released checkpoints fit the paper's model by name and shape."""

import json

import pytest
import torch

from cacl.errors import UserError
from cacl.model.localizer import Localizer
from cacl.released.slavc import SLAVC, from_slavc


def test_golden_slavc_checkpoint_keys(golden_dir):
    shapes = json.loads((golden_dir / "slavc_checkpoint_keys.json").read_text())
    checkpoint = {f"module.{name}": torch.rand(shape) for name, shape in shapes.items()}
    model = Localizer(SLAVC, seed=1)
    for half, prefix in zip(from_slavc(checkpoint), ("", "momentum_"), strict=True):
        assert {name: value.shape for name, value in half.items()} == {
            name: value.shape for name, value in model.state_dict().items()
        }
        model.load_state_dict(half)
        expected = checkpoint[f"module.{prefix}img_proj2.bias"]
        assert torch.equal(model.image_heads[1].get_parameter("bias"), expected)
        expected = checkpoint[f"module.{prefix}audnet.layer4.1.conv2.weight"]
        assert torch.equal(model.state_dict()["audio_trunk.body.layer4.1.conv2.weight"], expected)


def test_other_checkpoints_are_refused():
    with pytest.raises(UserError, match=r"encoder\.weight: not a name of SLAVC's model"):
        from_slavc({"encoder.weight": torch.zeros(1)})
