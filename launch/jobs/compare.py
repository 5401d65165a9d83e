"""Compare two models on the same test clips, by the evaluations in their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cacl.errors import UserError
from cacl.evaluation import results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.negative_statistics import negative_statistics
from cacl.evaluation.protocols import CONTROLS, get_protocol
from cacl.evaluation.retrieval import PROTOCOL as RETRIEVAL
from cacl.evaluation.retrieval import ranked_statistics
from cacl.evaluation.summary import Comparison, compare_numbers
from cacl.evaluation.summary import compare as compare_results
from launch.jobs.negatives import SYSTEM


@dataclass(frozen=True)
class Pair:
    """What a comparison comes to."""

    protocol: str
    metrics: Mapping[str, Comparison]
    """Every number that has an interval, by name."""
    clips: int
    """How many clips it is about."""
    of: Sequence[int]
    """How many each run has."""


def compare(
    first: Sequence[Path],
    second: Sequence[Path],
    *,
    protocol: str | None = None,
    system: str = "model",
    shared: bool = False,
) -> Pair:
    """Return the comparison of a `system` of two models; the lists are runs of one model, over seeds.

    `protocol` is an evaluation's name or its protocol's alone; None is the newest of the first run. `shared`
    takes the clips that all runs have, by their ids, where they were measured on different lists. The system
    `negatives` is the answer to sounds that nothing in view makes, each run at its own θ. Raises UserError if
    a run has no such evaluation, or one of other clips, by other rules, or under other sounds.
    """
    if system == SYSTEM:
        if shared:
            raise UserError("--shared: negative sounds are drawn from the clips at hand; leave it out")
        return compare_negatives(first, second, protocol)
    record = results.read_record(first[0], protocol)
    retrieved = record["protocol"] == RETRIEVAL
    if retrieved and shared:
        raise UserError("--shared: a rank is one among all candidates; evaluate both on the same --ids FILE")
    measured_by = None if retrieved else get_protocol(record["protocol"])
    found = []
    for run in (*first, *second):
        other = results.read_record(run, protocol) if protocol else read_alike(run, record["name"])
        check_same(record, other, first[0], run, () if shared else _CLIPS)
        found.append(read_system(run, other["name"], system))
    counts = [len(one) for one in found]
    if shared:
        found = share_clips(found, [*first, *second])
    for one, run in zip(found, [*first, *second], strict=True):
        if not np.array_equal(found[0].index, one.index):
            raise UserError(
                f"{run}: has results for other clips than {first[0]}; evaluate both alike, or compare "
                "what both have with --shared"
            )
    ours, theirs = found[: len(first)], found[len(first) :]
    if measured_by is None:
        ranks = [ranked_statistics([seed.columns for seed in part]) for part in (ours, theirs)]
        metrics = compare_numbers(ranks[0], ranks[1], len(first))
    else:
        measured_by = CONTROLS.get(measured_by.name, {}).get(system, measured_by)
        metrics = compare_results(ours, theirs, measured_by)
    return Pair(record["protocol"], metrics, len(found[0]), counts)


def compare_negatives(first: Sequence[Path], second: Sequence[Path], protocol: str | None) -> Pair:
    """Return the comparison of the numbers under negative sound, of clips that heard the same draws."""
    record = drawn_evaluation(first[0], protocol)
    found = []
    for run in (*first, *second):
        other = drawn_evaluation(run, protocol, record)
        check_same(record, other, first[0], run)
        rows = read_system(run, other["name"], SYSTEM)
        found.append(rows.take(rows.sounding).columns)
    one, two = (negative_statistics(part) for part in (found[: len(first)], found[len(first) :]))
    clips = len(found[0]["ciou"])
    return Pair(record["protocol"], compare_numbers(one, two, len(first)), clips, [clips] * len(found))


def share_clips(found: Sequence[ClipResults], runs: Sequence[Path]) -> list[ClipResults]:
    """Return the rows of the clips that all runs have, in one order and under one index.

    Raises UserError where there are none, or where two runs compare with other boxes.
    """
    ids = sorted(set.intersection(*(set(one.id.tolist()) for one in found)))
    if not ids:
        raise UserError(f"--shared: {', '.join(map(str, runs))}: have no clip in common")
    alike = []
    for one, run in zip(found, runs, strict=True):
        places = {clip: row for row, clip in enumerate(one.id.tolist())}
        rows = one.take(np.array([places[clip] for clip in ids]))
        alike.append(replace(rows, index=np.arange(len(ids))))
        for truth, first in ((rows.boxes, alike[0].boxes), (rows["area"], alike[0]["area"])):
            other = np.flatnonzero(truth != first)
            if len(other):
                raise UserError(
                    f"--shared: {run}: clip {ids[other[0]]} has other boxes than in {runs[0]} ({len(other)} "
                    f"of {len(ids)} clips do); evaluate both on the same annotations"
                )
    return alike


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


def drawn_evaluation(run: Path, wanted: str | None, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a run's newest evaluation with negative sounds, the one that is `wanted` or of that protocol.

    Given `like`, the newest under the same draws as that record, of the same weights and checkpoint, whatever
    the θ. Raises UserError where there is none.
    """
    files = sorted((run / "evaluation").glob("*/metrics.json"), key=lambda file: file.stat().st_mtime)
    records = [results.read_record(run, file.parent.name) for file in files]
    drawn = [one for one in records if SYSTEM in one]
    if like is None:
        found = [one for one in drawn if wanted in (None, one["name"], one["protocol"])]
        lacks, words = "negative sounds" + (f" under {wanted}" if wanted else ""), "silence noise off-screen"
    else:
        found = [one for one in drawn if _draws(one) == _draws(like)]
        told = like[SYSTEM]
        lacks = "the negative sounds that the first run heard"
        words = f"{' '.join(told['kinds'])} --repetitions {told['repetitions']} --seed {told['seed']}"
        words += f" --protocol {like['protocol']} --weights {like['weights']}"
    if not found:
        raise UserError(
            f"{run}: was not measured with {lacks}; run: cacl evaluate --run {run} --negatives {words}"
        )
    return found[-1]


def _draws(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what decides which sounds an evaluation's clips heard, and of which weights it is."""
    told, asked = record[SYSTEM], record["asked"]
    drawn = [told.get(key) for key in ("kinds", "repetitions", "seed", "off_screen_by", "labels")]
    return (record["protocol"], record["weights"], asked.get("checkpoint"), *drawn)


_RULES, _CLIPS = ("protocol", "protocol_version", "options", "rules"), ("data", "n")


def check_same(
    first: Mapping[str, Any],
    other: Mapping[str, Any],
    first_run: Path,
    run: Path,
    clips: Sequence[str] = _CLIPS,
) -> None:
    """Raise UserError unless both evaluations have measured by the same rules, and on the same `clips`."""
    for key in (*_RULES, *clips):
        one, two = first.get(key, other.get(key)), other.get(key, first.get(key))
        if one != two:  # what an older record does not say is taken to be the same
            raise UserError(f"{run}: its {key} is {two}, that of {first_run} is {one}; evaluate both alike")
