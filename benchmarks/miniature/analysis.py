"""Reading the runs of a study: numbers with intervals over clips and seeds, and Markdown of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from cacl.evaluation.compare import Statistic
from cacl.evaluation.protocols import Protocol
from cacl.evaluation.summary import statistics
from launch.jobs.compare import read_system

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "cacl"  # the same figure is the same file


@dataclass(frozen=True)
class Rows:
    """The runs of one study."""

    folder: Path
    seeds: Sequence[int]

    def runs(self, row: str) -> list[Path]:
        """Return the run directories of a row, one a seed."""
        return [self.folder / "runs" / row / str(seed) for seed in self.seeds]

    def statistic(self, row: str, protocol: Protocol, metric: str) -> Statistic:
        """Return a number of a row, over seeds and clips."""
        seeds = [read_system(run, protocol.name, "model") for run in self.runs(row)]
        return statistics(seeds, protocol)[metric]

    def estimate(self, row: str, protocol: Protocol, metric: str) -> dict[str, float]:
        """Return a number's mean over seeds with its interval over seeds and clips."""
        return vars(self.statistic(row, protocol, metric).interval())

    def difference(self, first: str, second: str, protocol: Protocol, metric: str) -> dict[str, float]:
        """Return second − first, paired over seeds and clips."""
        base = self.statistic(first, protocol, metric)
        return vars(self.statistic(second, protocol, metric).less(base).interval())

    def by_seed(self, row: str, protocol: Protocol, metric: str) -> list[float]:
        """Return a number of every seed."""
        statistic = self.statistic(row, protocol, metric)
        return statistic.of(np.ones((1, statistic.clips)))[0].tolist()


def show(estimate: Mapping[str, float]) -> str:
    """Return an estimate (`vars(Estimate)`) as per cent with its interval."""
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def show_difference(estimate: Mapping[str, float]) -> str:
    """Return a difference in points with its interval, in bold where that leaves out 0."""
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the marks `<!-- name -->` and `<!-- end of name -->` of a page, which has them."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = path.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{path}: has no section between {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")


def environment(rows: Rows, row: str) -> Mapping[str, Any]:
    """Return what machine and code the first run of a row was made with."""
    return json.loads((rows.runs(row)[0] / "study.json").read_text())["environment"]


def errorbars(axes: Any, x: Sequence[float], found: Sequence[Mapping[str, float]], **style: Any) -> None:
    """Draw estimates with their intervals on matplotlib's `axes`."""
    value, low, high = (np.array([one[name] for one in found]) for name in ("value", "low", "high"))
    axes.errorbar(x, value, yerr=[value - low, high - value], capsize=2, markersize=4, **style)
