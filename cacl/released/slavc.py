"""Reads SLAVC's released checkpoints: two heads on a pair of ResNet-18, and their moving average.

    model = Localizer(SLAVC)
    state, target = from_slavc(read_weights(Path("best.pth")))
    model.load_state_dict(target)

SLAVC's training measures the moving average (`--use_mom_eval`), its script for the released file the model.
"""

from __future__ import annotations

from torch import Tensor

from cacl.errors import UserError
from cacl.model import audio, image
from cacl.model.localizer import ModelOptions
from cacl.model.spectrograms import LogSpectrogram

SLAVC = ModelOptions(
    image=image.ResNet18(),
    audio=audio.ResNet18(),
    features=LogSpectrogram(),
    dimension=512,
    heads=2,
    image_dropout=0.9,
    initialization="ez-vsl",
)
"""The paper's model: SLAVC's."""

_NAMES = {
    "imgnet": "image_trunk.body",
    "img_proj1": "image_heads.0",
    "img_proj2": "image_heads.1",
    "audnet": "audio_trunk.body",
    "aud_proj1": "audio_heads.0",
    "aud_proj2": "audio_heads.1",
}
_AVERAGE = "momentum_"


def from_slavc(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the states of a `Localizer(SLAVC)` and its moving average; raise UserError for other names."""
    model: dict[str, Tensor] = {}
    target: dict[str, Tensor] = {}
    for key, value in state.items():
        part, _, rest = key.removeprefix("module.").partition(".")
        ours = _NAMES.get(part.removeprefix(_AVERAGE))
        if ours is None:
            raise UserError(f"{key}: not a name of SLAVC's model; its parts are {', '.join(_NAMES)}")
        (target if part.startswith(_AVERAGE) else model)[f"{ours}.{rest}"] = value
    return model, target
