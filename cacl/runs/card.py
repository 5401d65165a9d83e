"""What an exported model says of itself next to its recipe: its day, its license, what it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cacl.files import read_json
from cacl.options import Options, parse
from cacl.runs.directory import Run


@dataclass(frozen=True)
class Result(Options):
    """The main number of one evaluation."""

    evaluation: str
    """Protocol and options, as its folder is called."""
    clips: int
    metric: str
    value: float | None
    """None where no clip has this number."""
    interval: tuple[float, float] | None
    """Its 95 % interval over clips."""
    signature: str
    """From which the same is measured again: `cacl evaluate --signature`."""


@dataclass(frozen=True)
class Card(Options):
    """Where a file comes from and what its model can do."""

    exported: str = ""
    """The day, such as 2026-11-27."""
    cacl: str = ""
    """The version that wrote it."""
    license: str = ""
    """What others may do with the weights; "" where nobody said."""
    results: tuple[Result, ...] = ()


def results_of(run: Run, step: str, weights: str) -> tuple[Result, ...]:
    """Return what was measured of a run's checkpoint `step` and its `weights`, by the evaluations' names.

    Raises UserError where a file is damaged.
    """
    found = []
    for file in sorted((run.folder / "evaluation").glob("*/metrics.json")):
        record = read_json(file, "evaluate again")
        if (record.get("checkpoint"), record.get("weights")) == (step, weights) and "main" in record:
            main = record["main"]
            told = {"evaluation": record["name"], "clips": record["n"], "metric": main["name"]}
            told |= {name: main[name] for name in ("value", "interval")}
            found.append(parse(Result, {**told, "signature": record["signature"]}, str(file)))
    return tuple(found)


def card_of(about: Mapping[str, Any], file: str) -> Card:
    """Return the card in what an exported `file` says of itself, an empty one in one of an earlier cacl.

    Raises UserError where it is damaged.
    """
    return parse(Card, about.get("card", {}), f"{file}: card")
