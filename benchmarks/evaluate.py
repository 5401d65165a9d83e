"""Seconds to measure a whole test set, beside the loop over clips in which public evaluators are written.

    python -m benchmarks.evaluate --json
    CACL_LISTS_DIR=lists python -m benchmarks.evaluate --json      on the real boxes of VGG-SS

5,158 maps of 7×7 to all our numbers (CIoU at the top 50 % and absolute, AUC, AP, max-F1, precision, sizes,
the best that can be reached). Rows:

`evaluate/slavc-loop`: beside the loop of SLAVC's test.py over one of its three maps, which makes about half
of these numbers. As its public command runs it, a clip a batch, it makes a running number after every clip,
whose cost grows with the clips before; `evaluate/slavc-loop-silent` leaves that out.
`evaluate/naively`: beside a loop that makes all of our numbers.
`evaluate/negatives`: maps of negative sounds, three kinds of ten repetitions a clip, and the own ones, at one
threshold to areas, overlaps and CIoU, beside vssl_eval's way, a map at a time in NumPy, on `--negative-clips`
clips. `evaluate/negatives-all`: the same and all their numbers for all clips, beside the seconds of the rows
above.

All sides start from the same maps and ground truth, and must report the same. All may use every core
(`--threads`); the loops find little use for them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.ground_truth import pixel_boxes, union_map
from cacl.evaluation.negatives import KINDS, measure_negatives, negative_numbers
from cacl.evaluation.protocols import get_protocol
from cacl.evaluation.protocols.slavc import evaluator_numbers
from cacl.evaluation.summary import breakdown
from cacl.evaluation.systems import measure_maps

PROTOCOL = get_protocol("vggss").alter("bicubic-corners")
SIZE = PROTOCOL.size
UNIT = 64
THETA, REPETITIONS = 0.2, 10
"""Of negative sounds: the threshold, and how often a kind is drawn."""


def boxes_of_clips(clips: int) -> tuple[str, list[list[list[float]]]]:
    """Where the boxes come from, and the normalized boxes of each clip: VGG-SS's own, or drawn like them."""
    folder = os.environ.get("CACL_LISTS_DIR")
    if folder:
        return "VGG-SS", [
            clip["bbox"] for clip in json.loads((Path(folder) / "vggss.json").read_text())[:clips]
        ]
    random = np.random.default_rng(0)
    low, size = random.random((clips, 2)) * 0.5, 0.2 + random.random((clips, 2)) * 0.6
    return "drawn", [[[*a, *np.minimum(a + b, 1)]] for a, b in zip(low.tolist(), size, strict=True)]


def ours(maps: Tensor, truth: Tensor) -> dict[str, float]:
    """Measure in units, as `cacl evaluate` does."""
    parts = []
    for start in range(0, len(maps), UNIT):
        truths = {"boxes": truth[start : start + UNIT]}
        parts.append(measure_maps(maps[start : start + UNIT], truths, PROTOCOL))
    columns = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    index, nameless = np.arange(len(maps)), np.full(len(maps), "")
    results = ClipResults(index, nameless, nameless, np.ones_like(index), columns)
    ciou, confidence, area = (results[name] for name in ("ciou_top50", "confidence", "area"))
    numbers = evaluator_numbers(ciou, confidence, results.boxes, area) | PROTOCOL.summarize(results)
    numbers["ceiling_auc"] = PROTOCOL.ceiling(results)["auc"]
    breakdown(results, PROTOCOL)
    return numbers


def slavc_loop(maps: Tensor, truth: Tensor, running: bool = True) -> dict[str, float]:
    """Measure clip by clip with full sorts, as SLAVC's test.py.

    `running` makes its number after every clip.
    """
    found: list[tuple[float, float, float]] = []
    for one, g in zip(maps, truth, strict=True):
        found.append(slavc_numbers(pixels_of(one), g.numpy().astype(np.float64)))
        if running:
            np.mean(np.array([found[k][0] for k in range(len(found))]) > 0.5)
    return by_size(found)


def pixels_of(one: Tensor) -> np.ndarray:
    """A map [h, w] at [S, S] pixels."""
    heat = interpolate(one[None, None], size=(SIZE, SIZE), mode="bicubic", align_corners=True)
    return heat[0, 0].numpy()


def slavc_numbers(heat: np.ndarray, gt: np.ndarray) -> tuple[float, float, float]:
    """CIoU of the top 50 %, confidence and the boxes' area of a clip."""
    scores = (heat + 1) / 2
    confidence = np.sort(scores.flatten())[-scores.size // 4 :].mean()
    normalized = (scores - scores.min()) / (scores.max() - scores.min())
    threshold = np.sort(normalized.flatten())[int(scores.size * 0.5)]
    return ciou_of(normalized >= threshold, gt), confidence, gt.sum()


def by_size(clips: list[tuple[float, float, float]]) -> dict[str, float]:
    """SLAVC's numbers, of all clips and by the size of the object."""
    ciou, confidence, areas = map(list, zip(*clips, strict=True))
    numbers: dict[str, float] = {}
    bins = {"all": (0, 10**9), "visible": (0, 10**9), "small": (0, 32**2), "medium": (32**2, 96**2)}
    bins |= {"large": (96**2, 144**2), "huge": (144**2, 10**9)}
    for level in (0.5, 0.75):
        for name, (low, high) in bins.items():
            rows = [k for k, area in enumerate(areas) if low <= area < high]
            part = finalize([ciou[k] for k in rows], [confidence[k] for k in rows], level) if rows else {}
            numbers |= {f"{metric}-{name}@{int(level * 100)}": value for metric, value in part.items()}
    return numbers


def all_naively(maps: Tensor, truth: Tensor) -> dict[str, float]:
    """Make all of our numbers in loops over clips, each in the form that comes to mind first."""
    found, absolute, ceilings, peaks = [], [], [], []
    for one, g in zip(maps, truth, strict=True):
        heat, gt = pixels_of(one), g.numpy().astype(np.float64)
        found.append(slavc_numbers(heat, gt))
        absolute.append(ciou_of((heat + 1) / 2 >= 0.5, gt))
        best = np.zeros(gt.size)
        best[np.argsort(-gt.flatten(), kind="stable")[: gt.size // 2]] = 1
        ceilings.append(ciou_of(best.reshape(gt.shape) > 0, gt))
        peaks.append(gt[np.unravel_index(heat.argmax(), heat.shape)] > 0)
    return {
        **by_size(found),
        "ciou_absolute": float(np.mean(np.array(absolute) >= 0.5)),
        "auc_absolute": area_under(absolute),
        "ceiling_auc": area_under(ceilings),
        "peak_in_box": float(np.mean(peaks)),
    }


RIVALS: dict[str, Callable[[Tensor, Tensor], dict[str, float]]] = {
    "slavc-loop": slavc_loop,
    "slavc-loop-silent": partial(slavc_loop, running=False),
    "naively": all_naively,
}


def ciou_of(predicted: np.ndarray, gt: np.ndarray) -> float:
    """CIoU of one clip on maps of 0 and 1 in float64."""
    infer = np.zeros(gt.shape)
    infer[predicted] = 1
    return np.sum(infer * gt) / (np.sum(gt) + np.sum(infer * (gt == 0)))


def area_under(ciou: list[float]) -> float:
    """Trapezoid over 21 thresholds."""
    rates = [np.sum(np.array(ciou) >= 0.05 * k) / len(ciou) for k in range(21)]
    return float(np.trapezoid(rates, [0.05 * k for k in range(21)]))


def finalize(ciou: list[float], confidence: list[float], level: float) -> dict[str, float]:
    """The numbers of a subset; AP and max-F1 over thinned thresholds, each of them a pass over the clips."""
    curve = [
        counted(ciou, confidence, t, level) for t in np.sort(confidence)[:-1][:: -max(1, len(ciou) // 200)]
    ]
    envelope = [max(p for p, _ in curve[k:]) for k in range(len(curve))]
    ap = sum(envelope[k] * (curve[k + 1][1] - curve[k][1]) for k in range(len(curve) - 1))
    tenths = [counted(ciou, confidence, t, level) for t in sorted(confidence)[:: max(1, len(ciou) // 10)]]
    best = max(2 * p * r / (p + r) if p + r else 0.0 for p, r in tenths)
    precision, _ = counted(ciou, confidence, -1000, level)
    return {"Precision": precision, "AP": ap, "AUC": area_under(ciou), "F1": round(100 * best, 1)}


def counted(
    ciou: list[float], confidence: list[float], threshold: float, level: float
) -> tuple[float, float]:
    """Precision and recall at one threshold."""
    right = wrong = missed = 0
    for one, sure in zip(ciou, confidence, strict=True):
        if sure >= threshold:
            if one >= level:
                right += 1
            else:
                wrong += 1
        else:
            missed += 1
    precision = right / (right + wrong) if right + wrong else 1.0
    return precision, right / (right + missed) if right + missed else 1.0


def negatives_in_loops(
    own: Tensor, maps: Mapping[str, Tensor], truth: Tensor
) -> dict[str, dict[str, np.ndarray]]:
    """CIoU, predicted areas and overlaps, clip by clip and map by map, as vssl_eval makes them."""
    predicted = [pixels_of(one) > THETA for one in own]
    truths = [one.numpy().astype(np.float64) for one in truth]
    ciou = [
        ciou_of(one, gt) if gt.any() or one.any() else 0.0 for one, gt in zip(predicted, truths, strict=True)
    ]
    areas: dict[str, np.ndarray] = {}
    overlaps: dict[str, np.ndarray] = {}
    for kind, repetitions in maps.items():
        rows: list[list[tuple[float, float]]] = []
        for repetition in repetitions:
            theirs = [pixels_of(one) > THETA for one in repetition]
            pairs = [((a & b).sum(), (a | b).sum()) for a, b in zip(predicted, theirs, strict=True)]
            shares = [both / either if either else 1.0 for both, either in pairs]
            rows.append([(one.sum() / one.size, share) for one, share in zip(theirs, shares, strict=True)])
        areas[kind], overlaps[kind] = np.moveaxis(np.array(rows), 2, 0)
    return {"ciou": {"own": np.array(ciou)}, "image_areas": areas, "overlaps": overlaps}


def negatives_by_us(
    own: Tensor, maps: Mapping[str, Tensor], truth: Tensor
) -> dict[str, dict[str, np.ndarray]]:
    """The same by `cacl.evaluation.negatives`."""
    found = measure_negatives(own, maps, truth, THETA, PROTOCOL)
    return {name: {kind: part.numpy() for kind, part in kinds.items()} for name, kinds in found.items()}


def negative_rows(maps: Tensor, truth: Tensor, some: int, mine: float, threads: int) -> list[dict[str, Any]]:
    """Time negative sounds on `some` clips beside the loop, and on all; `mine` is what other numbers take."""
    random = torch.Generator().manual_seed(1)
    drawn = {kind: torch.rand(REPETITIONS, len(maps), 7, 7, generator=random) - 0.5 for kind in KINDS}
    few = {kind: part[:, :some] for kind, part in drawn.items()}
    negatives_by_us(maps[:2], {kind: part[:, :2] for kind, part in drawn.items()}, truth[:2])  # compiles
    started = time.perf_counter()
    found = negatives_by_us(maps[:some], few, truth[:some])
    middle = time.perf_counter()
    expected = negatives_in_loops(maps[:some], few, truth[:some])
    ended = time.perf_counter()
    for name, kinds in expected.items():
        for kind, values in kinds.items():
            # A pixel may lie on the threshold: upsampling in two products ends in other last bits.
            assert np.abs(found[name][kind] - values).max() < 1e-3, (name, kind)
    started_all = time.perf_counter()
    every = negatives_by_us(maps, drawn, truth)
    assert "f_loc" in negative_numbers(every["ciou"]["own"], every["image_areas"], every["overlaps"])
    whole = time.perf_counter() - started_all
    fast, slow = middle - started, ended - middle
    shared = {"unit": "s", "threads": threads}
    beside = {"ours": fast, "reference": slow, "ratio": slow / fast, "clips": some}
    alone = {"ours": whole, "reference": mine, "ratio": mine / whole, "clips": len(maps)}
    return [
        {"benchmark": "evaluate/negatives", **beside, **shared},
        {"benchmark": "evaluate/negatives-all", **alone, **shared},
    ]


def seconds(
    function: Callable[[Tensor, Tensor], dict[str, float]], maps: Tensor, truth: Tensor
) -> tuple[float, dict]:
    """How long one side takes, and what it reports."""
    started = time.perf_counter()
    summary = function(maps, truth)
    return time.perf_counter() - started, summary


def check_equal(summary: dict[str, float], expected: dict[str, float]) -> None:
    """Raise AssertionError unless both sides report the same: a clip in a thousand may tie otherwise."""
    for name, value in expected.items():
        tolerance = 0.11 if name.startswith("F1") else 2e-3
        assert abs(summary[name] - value) <= tolerance, (name, summary[name], value)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--clips", type=int, default=5158)
    parser.add_argument("--negative-clips", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both sides (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source, boxes = boxes_of_clips(arguments.clips)
    truth = torch.stack([union_map(pixel_boxes(clip, SIZE, "clip"), SIZE).bool() for clip in boxes])
    maps = torch.rand(len(truth), 7, 7, generator=torch.Generator().manual_seed(0)) - 0.5
    times: dict[str, list[float]] = {"ours": [], **{name: [] for name in RIVALS}}
    ours(maps[:UNIT], truth[:UNIT])  # compiles; a machine does that once
    for _ in range(arguments.repeats):
        fast, summary = seconds(ours, maps, truth)
        times["ours"].append(fast)
        for name, rival in RIVALS.items():
            slow, expected = seconds(rival, maps, truth)
            times[name].append(slow)
            check_equal(summary, expected)
    mine = statistics.median(times["ours"])
    for name in RIVALS:
        theirs = statistics.median(times[name])
        row = {
            "benchmark": f"evaluate/{name}",
            "ours": mine,
            "reference": theirs,
            "unit": "s",
            "ratio": theirs / mine,
            "clips": len(truth),
            "boxes": source,
            "ours_spread": [min(times["ours"]), max(times["ours"])],
            "reference_spread": [min(times[name]), max(times[name])],
            "threads": arguments.threads,
        }
        text = f"{row['benchmark']}: {mine:.2f} s, loop {theirs:.2f} s: ×{theirs / mine:.1f}"
        print(json.dumps(row) if arguments.json else text, flush=True)
    for row in negative_rows(maps, truth, arguments.negative_clips, mine, arguments.threads):
        text = f"{row['benchmark']}: {row['ours']:.2f} s, {row['reference']:.2f} s: ×{row['ratio']:.2f}"
        print(json.dumps(row) if arguments.json else text, flush=True)


if __name__ == "__main__":
    main()
