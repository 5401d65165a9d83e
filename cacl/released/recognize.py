"""Released checkpoints of the field as our model: SLAVC (its own file and its moving average) and EZ-VSL.

Files are read as weights only; nothing in them is executed. The names stand in `slavc` and `ez_vsl`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cacl.errors import UserError
from cacl.model.localizer import Localizer, ModelOptions
from cacl.released.ez_vsl import EZ_VSL, from_ez_vsl
from cacl.released.slavc import SLAVC, from_slavc


@dataclass(frozen=True)
class ReleasedModel:
    """A released model in our names."""

    kind: str
    options: ModelOptions
    states: dict[str, dict[str, Tensor]]
    """State dicts by file name: "model", and "ema" where the release holds a moving average."""

    def unmatched(self) -> list[str]:
        """Return what the release lacks, has beside, or has in another shape; [] if everything matches."""
        own = {name: tuple(value.shape) for name, value in Localizer(self.options).state_dict().items()}
        found = []
        for part, state in self.states.items():
            found += [f"{part}: lacks {name}" for name in own.keys() - state.keys()]
            found += [f"{part}: has {name}, which our model has not" for name in state.keys() - own.keys()]
            for name in own.keys() & state.keys():
                if (shape := tuple(state[name].shape)) != own[name]:
                    found.append(f"{part}: {name} is {list(shape)}, ours is {list(own[name])}")
        return sorted(found)


def recognize(state: dict[str, Tensor]) -> ReleasedModel:
    """Return a released state dict in our names. Raises UserError if neither SLAVC's nor EZ-VSL's."""
    parts = {key.removeprefix("module.").partition(".")[0] for key in state}
    if "img_proj1" in parts:
        model, average = from_slavc(state)
        return ReleasedModel("SLAVC", SLAVC, {"model": model, **({"ema": average} if average else {})})
    if "img_proj" in parts:
        return ReleasedModel("EZ-VSL", EZ_VSL, {"model": from_ez_vsl(state)})
    raise UserError(f"parts {', '.join(sorted(parts)[:4])}: neither SLAVC's checkpoint nor EZ-VSL's")
