"""The threshold θ of a run, fitted on clean validation clips without boxes: where it is kept, and what for.

A file `calibration/<options>.json` for each way of making pixels: θ holds for the checkpoint, weights,
upsampling and refinement under which it was fitted, and is refused for others. Above it, something sounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from cacl.errors import UserError, brief
from cacl.files import read_json, write_json
from cacl.runs.directory import Run

FORMAT_VERSION = 1
RULE = "maxq3_pooled"
"""The rule whose θ is taken: the third quartile of all negatives' highest values."""
PLAIN: Literal["bicubic"] = "bicubic"
"""The upsampling by which maps are drawn."""
_REMEDY = "delete it and fit anew: cacl calibrate --run RUN"


@dataclass(frozen=True)
class Calibration:
    """A fitted θ, and what it holds for."""

    thetas: Mapping[str, float]
    """θ by each published rule, on the scale of cosines."""
    checkpoint: str
    """Such as `step-300`."""
    weights: str
    """`model` or `ema`."""
    upsampling: str
    """From map to pixels."""
    data: str
    """Fingerprint of the validation clips."""
    clips: int
    """How many of them could be decoded."""
    negatives: Mapping[str, Any] = field(default_factory=dict)
    """Which sounds were played: kinds, repetitions, seed, and what told that one is off-screen."""
    refinement: str = "none"
    """How maps were changed before: not at all."""
    best: float | None = None
    """The 95th percentile of the highest values under the own sounds; None where it was not measured."""

    @property
    def theta(self) -> float:
        """The θ above which something sounds."""
        return self.thetas[RULE]

    def plain(self) -> dict[str, Any]:
        """Return plain values, as files hold them."""
        return {"format_version": FORMAT_VERSION, "theta": self.theta, "rule": RULE, **asdict(self)}


def name_of(upsampling: str, weights: str, checkpoint: str) -> str:
    """Return the name of a calibration's file without its ending."""
    named = "" if weights == "model" else f",weights={weights}"
    return f"upsampling={upsampling}{named},checkpoint={checkpoint}"


def folder(run: Run) -> Path:
    """Return where a run keeps its calibrations."""
    return run.folder / "calibration"


def write(run: Run, calibration: Calibration) -> Path:
    """Write a calibration in place of the one before it, whole or not at all; return its file."""
    name = name_of(calibration.upsampling, calibration.weights, calibration.checkpoint)
    file = folder(run) / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, calibration.plain())
    return file


def clear(run: Run) -> None:
    """Remove the calibrations of checkpoints that are there no more; a damaged one stays, to be named."""
    for file in folder(run).glob("*.json"):
        try:
            fitted_to = read(read_json(file, _REMEDY), str(file)).checkpoint
        except UserError:
            continue
        if not (run.checkpoints / fitted_to).exists():
            file.unlink(missing_ok=True)


def read(values: Mapping[str, Any], source: str) -> Calibration:
    """Return the calibration of plain values. Raises UserError, naming `source`, where they are none."""
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{source}: format_version is {brief(version)}, known is {FORMAT_VERSION}; {_REMEDY}")
    given: dict[str, Any] = {one.name: values.get(one.name) for one in fields(Calibration)}
    kinds = {"thetas": dict, "negatives": dict, "clips": int}
    best = given.pop("best")
    wrong = [name for name, value in given.items() if type(value) is not kinds.get(name, str)]
    wrong += [] if best is None or _is_number(best) else ["best"]
    thetas = given["thetas"] if not wrong else {}
    if wrong or RULE not in thetas or not all(_is_number(theta) for theta in thetas.values()):
        raise UserError(f"{source}: {(wrong or ['thetas'])[0]}: is damaged; {_REMEDY}")
    return Calibration(**given, best=best)


def read_all(run: Run, checkpoint: str, weights: str) -> list[Calibration]:
    """Return what was fitted to a checkpoint's weights, by name.

    Raises UserError where a file is damaged.
    """
    files = sorted(folder(run).glob("*.json"))
    found = [read(read_json(file, _REMEDY), str(file)) for file in files]
    return [one for one in found if (one.checkpoint, one.weights) == (checkpoint, weights)]


def find(run: Run, checkpoint: str, weights: str, upsampling: str, chosen: str = "latest") -> Calibration:
    """Return the θ of a run's checkpoint under an upsampling; `chosen` says how it was, `latest` or `best`.

    Raises UserError, which says how to fit it, where none was fitted so.
    """
    there = read_all(run, checkpoint, weights)
    for one in there:
        if one.upsampling == upsampling:
            return one
    others = f" (there is one for {', '.join(one.upsampling for one in there)})" if there else ""
    command = f"cacl calibrate --run {run.folder} --upsampling {upsampling} --weights {weights}"
    command += "" if chosen == "latest" else f" --checkpoint {chosen}"
    raise UserError(
        f"{folder(run)}: no θ for {checkpoint}, {weights} weights, {upsampling} upsampling{others}; "
        f"fit it by: {command}"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
