"""Compare two models on the same test clips, by the evaluations in their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cacl.errors import UserError
from cacl.evaluation import results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import CONTROLS, get_protocol
from cacl.evaluation.summary import Comparison
from cacl.evaluation.summary import compare as compare_results


@dataclass(frozen=True)
class Pair:
    """What a comparison comes to."""

    protocol: str
    metrics: Mapping[str, Comparison]
    """Every number that has an interval, by name."""


def compare(
    first: Sequence[Path], second: Sequence[Path], *, protocol: str | None = None, system: str = "model"
) -> Pair:
    """Return the comparison of a `system` of two models; the lists are runs of one model, over seeds.

    `protocol` is an evaluation's name or its protocol's alone; None is the newest of the first run. Raises
    UserError if a run has no such evaluation, or one of other clips or by other rules.
    """
    record = results.read_record(first[0], protocol)
    measured_by = get_protocol(record["protocol"])
    found = []
    for run in (*first, *second):
        other = results.read_record(run, protocol) if protocol else read_alike(run, record["name"])
        check_same(record, other, first[0], run)
        found.append(read_system(run, other["name"], system))
        if not np.array_equal(found[0].index, found[-1].index):
            raise UserError(f"{run}: has results for other clips than {first[0]}; evaluate both alike")
    measured_by = CONTROLS.get(measured_by.name, {}).get(system, measured_by)
    return Pair(record["protocol"], compare_results(found[: len(first)], found[len(first) :], measured_by))


def read_alike(run: Path, wanted: str) -> dict[str, Any]:
    """Return the record of a run's evaluation of this name, or else of the same protocol.

    Raises UserError if the run has none.
    """
    protocol = wanted.split(",")[0]
    there = (run / "evaluation" / wanted).exists()
    return results.read_record(run, wanted if there else protocol)


def read_system(run: Path, evaluation: str, system: str) -> ClipResults:
    """Return a system's results in a run. Raises UserError if it was not measured."""
    systems = results.read_clips(run, evaluation)
    if system not in systems:
        raise UserError(f"{run}: --system {system}: not measured; there are {', '.join(systems)}")
    return systems[system]


def check_same(first: Mapping[str, Any], other: Mapping[str, Any], first_run: Path, run: Path) -> None:
    """Raise UserError unless both evaluations measured the same thing on the same clips."""
    for key in ("protocol_version", "options", "data", "n"):
        if first[key] != other[key]:
            raise UserError(
                f"{run}: its {key} is {other[key]}, that of {first_run} is {first[key]}; evaluate both alike"
            )
