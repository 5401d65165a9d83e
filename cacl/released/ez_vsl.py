"""Reads EZ-VSL's and FNAC's released checkpoints: one head on a pair of ResNet-18."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from cacl.errors import UserError
from cacl.released.slavc import SLAVC

EZ_VSL = replace(SLAVC, heads=1, image_dropout=0.0)
FNAC = replace(EZ_VSL, image_dropout=0.9)
_NAMES = {
    "imgnet": "image_trunk.body",
    "img_proj": "image_heads.0",
    "audnet": "audio_trunk.body",
    "aud_proj": "audio_heads.0",
}


def from_ez_vsl(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a `Localizer(EZ_VSL)`; raise UserError for other names."""
    model = {}
    for key, value in state.items():
        part, _, rest = key.removeprefix("module.").partition(".")
        if part not in _NAMES:
            raise UserError(f"{key}: not a name of EZ-VSL's model; its parts are {', '.join(_NAMES)}")
        model[f"{_NAMES[part]}.{rest}"] = value
    return model
