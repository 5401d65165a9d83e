"""A run's report: one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.detection import detections
from cacl.evaluation.protocols import CONTROLS, Protocol
from cacl.evaluation.sentences import sentence
from cacl.files import write_text
from cacl.viewing.charts import line_chart, smooth
from cacl.viewing.gallery import Example, render_example
from cacl.viewing.pages import TEMPLATES, render

TITLES = {
    "model": "trained model",
    "guided": "with objects",
    "tags": "tags, without training",
    "objects": "objects alone",
    "untrained": "untrained model",
    "centered_box": "centered box",
    "other_sound": "the other object’s sound",
}
_INTERVAL = "95 % interval"


@dataclass(frozen=True)
class Evaluation:
    """A run's evaluation (`cacl.evaluation.results`)."""

    name: str
    record: Mapping[str, Any]
    systems: Mapping[str, ClipResults]


@dataclass(frozen=True)
class Rival:
    """Another run, shown next to the report's own."""

    evaluation: Evaluation
    verdicts: Sequence[str]
    """What the comparison comes to, a sentence a metric."""


@dataclass(frozen=True)
class Page:
    """What a report tells next to the evaluation."""

    losses: np.ndarray
    """[N, 2], a training's steps and the loss of each."""
    gallery: Mapping[str, Sequence[Example]]
    """Examples by heading."""
    sample_rate: int
    facts: Mapping[str, str] = field(default_factory=dict)
    rival: Rival | None = None


def write_report(path: Path, evaluation: Evaluation, protocol: Protocol, page: Page) -> None:
    """Write the report of a run."""
    record = evaluation.record
    shown = _shown(evaluation, page.rival)
    ranked = protocol.has_detection and record["ceiling"].get("ap") != 0
    html = render(
        TEMPLATES / "report.html",
        name=evaluation.name,
        rival=page.rival,
        record=record,
        main=_main(evaluation, page.rival),
        table=_table(evaluation, page.rival),
        controls=[(TITLES.get(key, key), record[key]) for key in CONTROLS.get(record["protocol"], {})],
        negatives=_negatives(record),
        breakdown=record["breakdown"],
        any_right=any(part.get("possible") != 0 for part in record["breakdown"]["by_size"].values()),
        judged=protocol.rule_of(protocol.judged_by),
        charts=[
            ("Loss", training_chart(page.losses)),
            ("Share of clips whose CIoU is at least this", _success_chart(shown, evaluation, protocol)),
            *(_detection_charts(shown, evaluation, protocol) if ranked else []),
        ],
        gallery={
            heading: [render_example(example, page.sample_rate) for example in examples]
            for heading, examples in page.gallery.items()
        },
        facts=page.facts,
    )
    write_text(path, html)


def _table(evaluation: Evaluation, rival: Rival | None) -> dict[str, Any]:
    """Return column titles and one row a metric: its name and the cells."""
    record = evaluation.record
    systems = {key: (TITLES[key], record[key]) for key in TITLES if key in record and key != "other_sound"}
    columns: dict[str, Mapping[str, Any]] = {}
    for key, (title, numbers) in systems.items():
        columns[title] = {name: _number(value) for name, value in numbers.items()}
        if key == "model":
            columns[_INTERVAL] = {name: _interval(ends) for name, ends in record["intervals"].items()}
            if rival:
                other = rival.evaluation
                columns[other.name] = {name: _number(v) for name, v in other.record["model"].items()}
                columns[f"{other.name}, {_INTERVAL}"] = {
                    name: _interval(ends) for name, ends in other.record["intervals"].items()
                }
    columns["ceiling"] = {name: _number(value) for name, value in record["ceiling"].items()}
    reached = [name for name in record["model"] if record["ceiling"].get(name) != 0]
    rows = [(name, sentence(name), [cells.get(name, "–") for cells in columns.values()]) for name in reached]
    beyond = [name for name in record["model"] if name not in reached]
    return {"titles": list(columns), "rows": rows, "beyond": beyond}


def _negatives(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is said of negative sound: a sentence, and a row a number; None where none was played."""
    told = record.get("negatives")
    if told is None:
        return None
    ends = told.get("intervals", {})
    rows = [
        (name, _sentence_at_theta(name), _number(value), _interval(ends[name]) if name in ends else "")
        for name, value in told["numbers"].items()
    ]
    return {
        "kinds": ", ".join(told["kinds"]),
        "repetitions": told["repetitions"],
        "rule": told["rule"],
        "rows": rows,
    }


def _sentence_at_theta(name: str) -> str:
    return sentence(f"{name}_at_theta" if name in ("mean_ciou", "auc") else name)


def _main(evaluation: Evaluation, rival: Rival | None) -> dict[str, Any]:
    """Return the number at first sight: what it says, and what it is for each system."""
    record = evaluation.record
    name = record["main"]["name"]
    systems = {TITLES[key]: record[key] for key in TITLES if key in record and key != "other_sound"}
    others = {
        title: _number(numbers[name]) for title, numbers in systems.items() if numbers.get(name) is not None
    }
    others.pop(TITLES["model"], None)
    if rival:
        others = {rival.evaluation.name: _number(rival.evaluation.record["model"][name]), **others}
    if name in record["ceiling"]:
        others["ceiling"] = _number(record["ceiling"][name])
    ends = record["main"]["interval"]
    return {
        "name": name,
        "sentence": sentence(name),
        "value": _number(record["main"]["value"]),
        "interval": "" if ends is None else _interval(ends),
        "others": others,
    }


def _shown(evaluation: Evaluation, rival: Rival | None) -> dict[str, ClipResults]:
    """Return the systems that have lines in charts, by title."""
    shown = {TITLES[key]: evaluation.systems[key] for key in TITLES if key in evaluation.systems}
    shown.pop(TITLES["other_sound"], None)
    return {**({rival.evaluation.name: rival.evaluation.systems["model"]} if rival else {}), **shown}


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3f} – {ends[1]:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def training_chart(losses: np.ndarray) -> str:
    """Return the chart of a training's losses, [N, 2] steps and the loss of each."""
    means = smooth(losses[:, 1].tolist(), half_life=max(1.0, len(losses) / 40))
    trend = np.column_stack([losses[:, 0], means])
    return line_chart({"each step": losses, "running mean": trend}, "step", "loss")


def _success_chart(shown: Mapping[str, ClipResults], evaluation: Evaluation, protocol: Protocol) -> str:
    """Return the share of sounding clips whose CIoU, as the protocol judges it, reaches a threshold."""
    name, model = protocol.judged_by, evaluation.systems["model"]
    lines = {title: _success(results, name) for title, results in shown.items() if name in results.columns}
    if (bound := f"ceiling_{name}") in model.columns:
        lines["ceiling"] = _success(model, bound)
    return line_chart(lines, "CIoU", "clips", (0, 1))


def _success(results: ClipResults, name: str) -> list[tuple[float, float]]:
    ciou = results[name][results.sounding]
    return [(k / 50, float((ciou >= k / 50).mean())) for k in range(51)]


def _detection_charts(
    shown: Mapping[str, ClipResults], evaluation: Evaluation, protocol: Protocol
) -> list[tuple[str, str]]:
    """Return the charts of clips ranked by confidence, with their captions."""
    by_confidence = _threshold_chart(evaluation, protocol)
    return [
        ("Precision over recall", _precision_recall_chart(shown, protocol)),
        ("Precision and recall of the trained model, by confidence", by_confidence),
    ]


def _precision_recall_chart(shown: Mapping[str, ClipResults], protocol: Protocol) -> str:
    lines = {}
    for title, results in shown.items():
        if title != TITLES["centered_box"]:  # its confidence is the same for every clip
            _, precision, recall = detections(results, protocol.judged_by).curve()
            lines[title] = np.column_stack([recall, precision])
    return line_chart(lines, "recall", "precision", (0, 1))


def _threshold_chart(evaluation: Evaluation, protocol: Protocol) -> str:
    thresholds, precision, recall = detections(evaluation.systems["model"], protocol.judged_by).curve()
    lines = {
        name: np.column_stack([thresholds, values])
        for name, values in (("precision", precision), ("recall", recall))
    }
    return line_chart(lines, "confidence", "share", (0, 1))
