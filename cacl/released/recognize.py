"""Released checkpoints of the field as our model: SLAVC (weights and moving average), EZ-VSL and FNAC.

Files are read as weights only; nothing in them is executed. The names stand in `slavc` and `ez_vsl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from cacl.errors import UserError
from cacl.model.localizer import Localizer, ModelOptions
from cacl.released.ez_vsl import EZ_VSL, FNAC, from_ez_vsl
from cacl.released.slavc import SLAVC, from_slavc

Method = Literal["slavc", "ez-vsl", "fnac"]
METHODS: tuple[Method, ...] = get_args(Method)


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


def recognize(state: dict[str, Tensor], method: Method | None = None) -> ReleasedModel:
    """Return a released state dict in our names, as that of `method`.

    EZ-VSL's and FNAC's have the same names and shapes: which it is must be said. Raises UserError where it is
    not, and for a state dict that is none of `method`'s.
    """
    parts = {key.removeprefix("module.").partition(".")[0] for key in state}
    fitting: tuple[Method, ...] = ()
    if "img_proj1" in parts:
        fitting = ("slavc",)
    elif "img_proj" in parts:
        fitting = ("ez-vsl", "fnac")
    if not fitting:
        raise UserError(f"parts {', '.join(sorted(parts)[:4])}: a checkpoint of none of {', '.join(METHODS)}")
    if method is None and len(fitting) > 1:
        raise UserError(f"may be of {' or '.join(fitting)}, which share names and shapes: say --method")
    if method not in (None, *fitting):
        raise UserError(f"--method {method}: the names are those of {' or '.join(fitting)}")
    method = method or fitting[0]
    if method == "slavc":
        model, average = from_slavc(state)
        return ReleasedModel("SLAVC", SLAVC, {"model": model, **({"ema": average} if average else {})})
    kind, options = ("EZ-VSL", EZ_VSL) if method == "ez-vsl" else ("FNAC", FNAC)
    return ReleasedModel(kind, options, {"model": from_ez_vsl(state)})
