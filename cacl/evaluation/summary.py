"""From per-clip results to what is reported: detections, intervals, breakdowns, and pairs of runs.

Axes: `N` clips of the test set, `R` seeds (runs that differ in nothing else), `k` resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults, by_name
from cacl.evaluation.compare import (
    Estimate,
    McNemar,
    Statistic,
    Weighted,
    curve_number,
    intervals,
    mcnemar,
    mean_over_clips,
    once,
    verdict,
)
from cacl.evaluation.detection import detections
from cacl.evaluation.protocols.base import Protocol


def statistics(seeds: Sequence[ClipResults], protocol: Protocol) -> dict[str, Statistic]:
    """Return the reported numbers of runs on the same clips, for intervals and comparisons."""
    means = _means([protocol.per_clip(results) for results in seeds])
    pictures = _means([protocol.per_picture(results) for results in seeds])
    means |= {name: replace(one, unit="pictures") for name, one in pictures.items()}
    if not protocol.has_detection:
        return means
    found = [detections(results, protocol.judged_by) for results in seeds]
    curves = [once(one.resampled) for one in found]

    def number(curve: Callable[[np.ndarray], dict[str, np.ndarray]], name: str) -> Weighted:
        return lambda weights: curve(weights)[name]

    names, clips = found[0].numbers(), len(seeds[0])
    return means | {name: curve_number([number(one, name) for one in curves], clips) for name in names}


def _means(seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Statistic]:
    stacked = {name: np.stack([one[name] for one in seeds]) for name in seeds[0]}
    return {name: mean_over_clips(one) for name, one in stacked.items() if one.size}


def breakdown(results: ClipResults, protocol: Protocol) -> dict[str, Any]:
    """Return the main number by size of the object and by class, with the clips behind each.

    A size of which no map can be right has `possible` 0.
    Of sets with silent clips also, by what is heard, the share of them that is taken for sounding.
    """
    sounding, good = results.sounding, results[protocol.judged_by] >= 0.5
    area, classes = results["area"], results.class_name

    bound = f"ceiling_{protocol.judged_by}"
    possible = results[bound] >= 0.5 if bound in results.columns else np.ones(len(results), dtype=bool)

    def share(rows: np.ndarray) -> dict[str, float]:
        part = {"n": int(rows.sum()), "right": float(good[rows].mean())}
        return part if possible[rows].any() else part | {"possible": 0.0}

    sizes = {
        name: sounding & (area >= low) & (area < high) for name, (low, high) in metrics.SIZE_BINS.items()
    }
    found: dict[str, Any] = {
        "by_size": {name: share(rows) for name, rows in sizes.items() if rows.any()},
        "by_class": {
            name: {"n": len(right), "right": float(right.mean())}
            for name, right in by_name(classes[sounding], good[sounding]).items()
            if name
        },
    }
    if protocol.has_detection and not sounding.all():
        found["silent"] = detections(results, protocol.judged_by).silent(classes)
    return found


@dataclass(frozen=True)
class Comparison:
    """A number of two models on the same clips."""

    clips: int
    """How many, or how many pictures: see `unit`."""
    seeds: int
    first: Estimate
    second: Estimate
    difference: Estimate
    """Second less first, paired."""
    mcnemar: McNemar | None = None
    """For numbers that are right or wrong for each clip or picture, of one seed."""
    unit: str = "clips"
    """What was drawn: clips, or the pictures that some of them share."""

    def record(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def sentence(self, names: tuple[str, str], metric: str) -> str:
        """Return the comparison as text."""
        text = verdict(*names, metric, self.difference, self.clips, self.seeds, self.unit)
        if self.mcnemar is None:
            return text
        return (
            f"{text} McNemar: right in {names[0]} alone {self.mcnemar.only_first}, in {names[1]} alone "
            f"{self.mcnemar.only_second}, p = {self.mcnemar.p_value:.3g}."
        )


def compare(
    first: Sequence[ClipResults], second: Sequence[ClipResults], protocol: Protocol
) -> dict[str, Comparison]:
    """Return every number of two models with intervals, and the paired difference; lists are over seeds."""
    tests: dict[str, McNemar] = {}
    if len(first) == 1:
        pair = [protocol.per_clip(one) | protocol.per_picture(one) for one in (first[0], second[0])]
        tests = {
            metric: mcnemar(values, pair[1][metric])
            for metric, values in pair[0].items()
            if values.dtype == np.bool_
        }
    return compare_numbers(statistics(first, protocol), statistics(second, protocol), len(first), tests)


def compare_numbers(
    first: Mapping[str, Statistic],
    second: Mapping[str, Statistic],
    seeds: int,
    tests: Mapping[str, McNemar] | None = None,
) -> dict[str, Comparison]:
    """Return the numbers of two models, of `seeds` runs each, as `compare` does; `tests` by number."""
    asked: dict[tuple[str, str], Statistic] = {}
    for metric, one in first.items():
        two = second[metric]
        asked |= {(metric, "first"): one, (metric, "second"): two, (metric, "difference"): two.less(one)}
    found = intervals(asked)
    return {
        metric: Comparison(
            clips=one.clips,
            seeds=seeds,
            first=found[metric, "first"],
            second=found[metric, "second"],
            difference=found[metric, "difference"],
            mcnemar=(tests or {}).get(metric),
            unit=one.unit,
        )
        for metric, one in first.items()
    }
