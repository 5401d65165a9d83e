"""A run's report: one HTML file that opens without a network.

Axes: `S` pixels of an image's side, `T` samples of a sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from torch import Tensor

from cacl.evaluation.charts import line_chart, smooth
from cacl.evaluation.metrics import peak, precision_recall
from cacl.evaluation.protocols import CONTROLS, Columns
from cacl.pictures import flac_url, frame_image, heat_image, jpeg_url, webp_url
from cacl.run import write_text

TEMPLATES = Path(__file__).parent / "templates"
TITLES = {
    "model": "trained model",
    "guided": "with objects",
    "objects": "objects alone",
    "untrained": "untrained model",
    "centered_box": "centered box",
    "other_sound": "the other object’s sound",
}


@dataclass(frozen=True)
class View:
    """What one sound makes of a frame."""

    title: str
    scores: Tensor
    """[S, S], on the protocol's pixels."""
    waveform: Tensor
    """[T] in -1..1."""
    boxes: Sequence[Sequence[float]]
    """Where the object is that sounds, normalized."""


@dataclass(frozen=True)
class Example:
    """A test clip in the gallery."""

    clip_id: str
    class_name: str
    frame: Tensor
    """[3, S, S] uint8."""
    views: list[View]


def choose(columns: Columns, ranked_by: str, count: int, seed: int = 0) -> dict[str, list[int]]:
    """Return indices of clips for the gallery, by heading: the best, the worst, and some at random.

    `ranked_by` names the per-clip column that is higher where the model is better. No clip appears twice.
    """
    order = columns["index"][np.argsort(-np.nan_to_num(columns[ranked_by].astype(float)), kind="stable")]
    part = max(1, min(count, len(order)) // 4)
    best, rest = order[:part], order[part:]
    worst, middle = rest[::-1][:part], rest[: max(0, len(rest) - part)]
    random = np.random.default_rng(seed).permutation(middle)[: max(0, count - 2 * part)]
    headings = {"Drawn at random": random, "The best": best, "The worst": worst}
    return {heading: [int(index) for index in chosen] for heading, chosen in headings.items() if len(chosen)}


def write_report(
    path: Path,
    name: str,
    record: Mapping[str, Any],
    systems: Mapping[str, Columns],
    log: Sequence[Mapping[str, Any]],
    gallery: Mapping[str, Sequence[Example]],
    sample_rate: int,
    facts: Mapping[str, str],
) -> None:
    """Write the report of the run called `name`.

    `record` and `systems` are an evaluation's (`cacl.evaluation.results`), `log` the lines of train.jsonl,
    `gallery` the examples by heading, `facts` what else to say of the run.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html").render(
        name=name,
        record=record,
        table=_table(record),
        controls=[(TITLES.get(key, key), record[key]) for key in CONTROLS.get(record["protocol"], {})],
        training_chart=_training_chart(log),
        success_chart=_success_chart(systems),
        precision_recall_chart=_precision_recall_chart(systems),
        gallery={
            heading: [_rendered(example, sample_rate) for example in examples]
            for heading, examples in gallery.items()
        },
        facts=facts,
    )
    write_text(path, html)


def _table(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return metric names and one row a system; a cell is (text, whether it is the row's best)."""
    names = list(record["model"])
    intervals = record.get("intervals", {})
    rows = []
    for key in ("model", "guided", "objects", "untrained", "centered_box"):
        if key in record:
            rows.append((TITLES[key], [_number(record[key].get(name)) for name in names]))
    if intervals:
        rows.insert(1, ("95 % interval", [_interval(intervals.get(name)) for name in names]))
    rows.append(("ceiling", [_number(record["ceiling"].get(name)) for name in names]))
    return {"names": names, "rows": rows}


def _interval(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.3f} – {ends[1]:.3f}" if ends else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _training_chart(log: Sequence[Mapping[str, Any]]) -> str:
    steps = [(line["step"], line["loss"]) for line in log if "loss" in line]
    means = smooth([loss for _, loss in steps], half_life=max(1.0, len(steps) / 40))
    trend = [(step, mean) for (step, _), mean in zip(steps, means, strict=True)]
    return line_chart({"each step": steps, "running mean": trend}, "step", "loss")


def _success_chart(systems: Mapping[str, Columns]) -> str:
    """Return the share of sounding clips with CIoU at the top 50 % of at least a threshold."""
    shown = {name: systems[name] for name in TITLES if "ciou_top50" in systems.get(name, {})}
    lines = {TITLES[name]: _success(columns, "ciou_top50") for name, columns in shown.items()}
    return line_chart(
        {**lines, "ceiling": _success(systems["model"], "ceiling_ciou_top50")}, "CIoU", "clips", (0, 1)
    )


def _success(columns: Columns, name: str) -> list[tuple[float, float]]:
    ciou = columns[name][columns["boxes"] > 0]
    return [(k / 50, float((ciou >= k / 50).mean())) for k in range(51)]


def _precision_recall_chart(systems: Mapping[str, Columns]) -> str:
    """Return precision over recall where the protocol measures confidence, otherwise nothing."""
    lines = {}
    for name in ("model", "untrained"):
        columns = systems.get(name, {})
        if "confidence" in columns:
            confidence, sounding = (torch.from_numpy(columns[key]) for key in ("confidence", "boxes"))
            correct = torch.from_numpy(columns["ciou_top50"] >= 0.5)
            thresholds = confidence.unique().flip(0)
            precision, recall = precision_recall(correct, sounding > 0, confidence, thresholds)
            lines[TITLES[name]] = list(zip(recall.tolist(), precision.tolist(), strict=True))
    return line_chart(lines, "recall", "precision", (0, 1)) if lines else ""


def _rendered(example: Example, sample_rate: int) -> dict[str, Any]:
    return {
        "clip_id": example.clip_id,
        "class_name": example.class_name,
        "frame": jpeg_url(frame_image(example.frame)),
        "views": [_rendered_view(view, sample_rate) for view in example.views],
    }


def _rendered_view(view: View, sample_rate: int) -> dict[str, Any]:
    size = view.scores.shape[-1]
    x, y = peak(view.scores[None])[0].tolist()
    px, py = (x + 0.5) / size, (y + 0.5) / size
    boxes = [[min(max(value, 0.0), 1.0) for value in box] for box in view.boxes]
    return {
        "title": view.title,
        "heat": webp_url(heat_image(view.scores)),
        "sound": flac_url(view.waveform, sample_rate),
        "boxes": [(100 * x0, 100 * y0, 100 * (x1 - x0), 100 * (y1 - y0)) for x0, y0, x1, y1 in boxes],
        "peak": (100 * px, 100 * py),
        "hit": any(x0 <= px < x1 and y0 <= py < y1 for x0, y0, x1, y1 in boxes),
    }
