"""What a run answers to negative sound on test clips, at the θ that was fitted on others.

Axes: `n` clips of a batch, `N` of all, `K` repetitions, `S` pixels of an image's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation import metrics, negatives
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.compare import intervals
from cacl.evaluation.measure import stack_truths
from cacl.evaluation.negative_statistics import negative_statistics
from cacl.evaluation.protocols import Protocol
from cacl.evaluation.upsampling import upsample
from cacl.model.localizer import Localizer
from cacl.model.tags.localizer import TagLocalizer
from cacl.resumable import Arrays
from cacl.runs import calibration
from cacl.runs.calibration import RULE, Calibration
from cacl.runs.directory import Run
from cacl.types import Batch
from launch.jobs.measuring import Measurement
from launch.jobs.negatives import NEGATIVE, OWN, SYSTEM, Draws, Listening, Sounds, column, listen

_DEFAULT = Draws()


@dataclass(frozen=True)
class Negatives:
    """Which sounds test clips are shown with, and the θ at which that is judged."""

    draws: Draws
    theta: Calibration
    labels: str | None = None
    """A label table of the test clips, which tells what is off-screen where they have no classes."""

    def options(self) -> dict[str, str]:
        """Return what tells these results from those of a plain evaluation, for their name."""
        draws, options = self.draws, {"negatives": "+".join(self.draws.kinds)}
        options["theta"] = f"{self.theta.theta:.4f}"
        if draws.repetitions != _DEFAULT.repetitions:
            options["repetitions"] = str(draws.repetitions)
        return options | ({"seed": str(draws.seed)} if draws.seed else {})


def open_negatives(
    draws: Draws,
    run: str | Path,
    step: str,
    weights: str,
    checkpoint: str,
    protocol: Protocol,
    data: str,
    labels: str | None,
) -> Negatives:
    """Return what is measured of a run's `step`, such as `step-3`, on test clips `data`.

    Raises UserError where no θ was fitted to it under the protocol's upsampling, or on these very clips, and
    for a protocol of another scale than cosines.
    """
    if protocol.scores is not upsample:
        raise UserError(f"--negatives: {protocol.name} measures no cosines, and θ is one; name another")
    theta = calibration.find(Run(run), step, weights, protocol.upsampling, checkpoint)
    if theta.data == data:
        raise UserError(
            f"--negatives: the θ of {run} was fitted on these very clips; fit it on others by: "
            f"cacl calibrate --run {run} --validation DIR"
        )
    return Negatives(draws, theta, labels)


def measure_negatives(
    asked: Negatives, model: Localizer | TagLocalizer, work: Measurement, protocol: Protocol
) -> tuple[Arrays, dict[str, Any]] | None:
    """Return a row a clip [N, ...] by name and what was drawn on rank 0, None on others.

    `index`, `ciou`, and by kind `pia_`, `iou_positive_` (negatives) or `ciou_`, `iou_positive_` (own sound in
    noise), each [N, K].
    """
    sounds = Sounds(asked.draws, work.clips, asked.labels)
    listening = Listening(model.to(work.world.device), sounds)

    def measure(maps: Mapping[str, Tensor], batch: Batch) -> Arrays:
        return at_theta(maps, truths_of(batch, protocol, maps[OWN].device), asked.theta.theta, protocol)

    named = {"protocol": protocol.name, "version": protocol.version, **protocol.options()}
    identity = {**work.identity, "theta": asked.theta.theta, **named}
    rows = listen(listening, measure, work.parts / SYSTEM, identity, work.world)
    return None if rows is None else (rows, sounds.plain())


def truths_of(batch: Batch, protocol: Protocol, device: torch.device) -> Tensor:
    """Return the truth [n, S, S] of a batch's clips: what is heard, its mask where the protocol has one."""
    good = batch.valid.cpu()
    notes = [note for note, valid in zip(batch.annotations or [], good.tolist(), strict=True) if valid]
    truths = stack_truths(notes, protocol, torch.device("cpu"))
    truth = truths.get("mask", truths.get("boxes"))
    if truth is None:
        raise UserError(f"--negatives: {protocol.name} compares with neither boxes nor masks; name another")
    every = truth.new_zeros(len(good), *truth.shape[1:])
    every[good] = truth
    return every.to(device)


def at_theta(maps: Mapping[str, Tensor], truth: Tensor, theta: float, protocol: Protocol) -> Arrays:
    """Return each kind's columns [n, K] at θ, and `ciou` [n] of the own sound.

    `maps` are [n, h, w] of the own sound (OWN) and [K, n, h, w] of each kind, `truth` is [n, S, S].
    """
    heard = {kind: some for kind, some in maps.items() if kind != OWN}
    measured = negatives.measure_negatives(maps[OWN], heard, truth, theta, protocol)
    found = {"ciou": measured["ciou"]["own"]}
    for kind, some in heard.items():
        name = column(kind)
        found[f"iou_positive_{name}"] = measured["overlaps"][kind].T
        if kind in NEGATIVE:
            found[f"pia_{name}"] = measured["image_areas"][kind].T
        else:
            cious = [negatives.own_ciou(protocol.score_maps(one), truth, theta) for one in some]
            found[f"ciou_{name}"] = torch.stack(cious, 1)
    return {key: values.contiguous().cpu().numpy() for key, values in found.items()}


def results_of(rows: Arrays, model: ClipResults) -> ClipResults:
    """Return the rows of the clips that the model's results hold, with their facts."""
    known = {name: values for name, values in rows.items() if name != "index"}
    places = np.searchsorted(rows["index"], model.index)
    return replace(model, columns={name: values[places] for name, values in known.items()})


def record_of(asked: Negatives, results: ClipResults, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of negatives: the numbers of sounding clips, θ, and what was drawn."""
    fitted, sounding = asked.theta, results.take(results.sounding)
    found = intervals(negative_statistics([sounding.columns])) if len(sounding) else {}
    return {
        **drawn,
        "theta": fitted.theta,
        "rule": f"above θ = {fitted.theta:.6g} ({RULE} of {fitted.clips} clips of {fitted.data[:8]})",
        "fitted_on": fitted.data,
        "fitted_to": dict(fitted.negatives),
        "n": len(sounding),
        "numbers": numbers_of(sounding.columns, asked.draws),
        "intervals": {name: [one.low, one.high] for name, one in found.items()},
    }


def numbers_of(columns: Mapping[str, np.ndarray], draws: Draws) -> dict[str, float]:
    """Return the numbers of sounding clips: columns [N] and [N, K] as `measure_negatives` has them."""
    kinds = {column(kind): kind in draws.negative for kind in draws.kinds}
    areas = {name: columns[f"pia_{name}"].T for name, negative in kinds.items() if negative}
    overlaps = {name: columns[f"iou_positive_{name}"].T for name in kinds}
    numbers = negatives.negative_numbers(columns["ciou"], areas, overlaps)
    for name, negative in kinds.items():
        if not negative:
            own = columns[f"ciou_{name}"].ravel()
            numbers[f"mean_ciou_{name}"] = metrics.mean(own)
            numbers[f"auc_{name}"] = metrics.auc(torch.from_numpy(own))
    return numbers
