"""What a sweep found: every setting with its interval over seeds, curves, a heat map, and the best recipe.

Everything is read from the trials' run directories, so the report can be written at any time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cacl.files import write_json, write_text
from cacl.runs.directory import Run
from cacl.viewing.charts import line_chart
from cacl.viewing.pages import render
from cacl.viewing.pictures import figure_url
from launch.sweeping.space import FINISHED, STOPPED, Setting, Space, setting_name

FORMAT_VERSION = 1
_TEMPLATE = Path(__file__).with_name("report.html.j2")
FEWEST_SEEDS = 3
"""For an interval: that of two values is thirteen times as wide as the values lie apart."""
CURVES = 6
"""Settings whose learning is drawn, the best ones."""
HEAT_MAP_KEYS = ("loss.temperature", "training.global_batch_size")


@dataclass(frozen=True)
class TrialResult:
    """What one trial reached."""

    seed: int
    step: int
    clips: int
    """That it has seen: steps by the batch size."""
    objective: float | None
    state: str
    """finished, stopped (by the scheduler), or unfinished."""


@dataclass(frozen=True)
class SettingResult:
    """One setting over its seeds."""

    setting: Setting
    trials: list[TrialResult]
    mean: float | None
    """Mean objective of the finished seeds; None where none has finished."""
    interval: tuple[float, float] | None
    """95 % interval of the mean by Student's t; None with fewer than `FEWEST_SEEDS` finished seeds."""

    @property
    def name(self) -> str:
        """A short name."""
        return setting_name(self.setting)

    @property
    def is_whole(self) -> bool:
        """True where every seed has finished: only such settings may be chosen."""
        return all(trial.state == "finished" for trial in self.trials)


def trial_folder(out: Path, setting: Setting, seed: int) -> Path:
    """Return the run directory of a trial."""
    return out / "trials" / f"{setting_name(setting)},seed={seed}"


def read_results(out: Path, space: Space, settings: list[Setting]) -> list[SettingResult]:
    """Read every trial; the best whole setting first, settings without a finished seed last."""
    rows = []
    for setting in settings:
        trials = [_read_trial(trial_folder(out, setting, seed), seed, space) for seed in space.seeds]
        values = [t.objective for t in trials if t.state == "finished" and t.objective is not None]
        mean = float(np.mean(values)) if values else None
        rows.append(SettingResult(setting, trials, mean, _interval(values, space.objective.best)))
    sign = -1.0 if space.objective.best == "max" else 1.0
    return sorted(rows, key=lambda row: (not row.is_whole, math.inf if row.mean is None else sign * row.mean))


def write_report(out: Path, space: Space, rows: list[SettingResult], recipe: str) -> Path:
    """Write `results.json` and `report.html` into `out`; return the path of the report."""
    body = {
        "format_version": FORMAT_VERSION,
        "objective": asdict(space.objective),
        "settings": [asdict(row) for row in rows],
    }
    write_json(out / "results.json", body)
    pictures = {"heat_map": _heat_map(space, rows), "curves": _curves(out, space, rows)}
    seen = sorted({t.clips for row in rows for t in row.trials if t.state == "finished"})
    page = render(
        _TEMPLATE, space=space, rows=rows, recipe=recipe, seen=seen, fewest=FEWEST_SEEDS, **pictures
    )
    write_text(out / "report.html", page)
    return out / "report.html"


def _read_trial(folder: Path, seed: int, space: Space) -> TrialResult:
    step, value = next(_reached(folder, space), (0, None))
    state = "finished" if (folder / FINISHED).exists() else "unfinished"
    state = "stopped" if (folder / STOPPED).exists() else state
    clips = step * Run(folder).recipe()["training"]["global_batch_size"] if step else 0
    return TrialResult(seed, step, clips, value, state)


def _reached(folder: Path, space: Space) -> Iterator[tuple[int, float]]:
    """Yield the steps at which a trial has measured the objective, and its values, the newest first."""
    for line in Run(folder).newest_first(space.objective.key.partition(".")[0]):
        if (value := space.objective.read(line)) is not None:
            yield line["step"], value


def _interval(values: list[float], best: str) -> tuple[float, float] | None:
    if len(values) < FEWEST_SEEDS:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    low, high = float(np.mean(values)) - half, float(np.mean(values)) + half
    if best == "max" and 0 <= min(values) <= max(values) <= 1:  # a share of clips
        return max(low, 0.0), min(high, 1.0)
    return low, high


def _curves(out: Path, space: Space, rows: list[SettingResult]) -> str:
    """Return the objective of the best settings over the clips seen, the mean of their seeds, as a chart."""
    lines = {}
    for row in rows[:CURVES]:
        found: dict[int, list[float]] = {}
        for trial in row.trials:
            for step, value in _reached(trial_folder(out, row.setting, trial.seed), space):
                found.setdefault(step * trial.clips // trial.step, []).append(value)
        lines[row.name] = [(clips, float(np.mean(values))) for clips, values in sorted(found.items())]
    return line_chart(lines, "clips seen", space.objective.key)


def _heat_map(space: Space, rows: list[SettingResult]) -> str | None:
    """Return a picture over two keys as a data URL, the mean over whatever else varies; None with fewer."""
    lists = {
        key: values for key, values in space.vary.items() if isinstance(values, list) and len(values) > 1
    }
    keys = HEAT_MAP_KEYS if lists.keys() >= set(HEAT_MAP_KEYS) else tuple(lists)[:2]
    if len(keys) < 2:
        return None
    from matplotlib.figure import Figure

    down, across = (lists[key] for key in keys)
    values = np.full((len(down), len(across)), np.nan)
    for i, first in enumerate(down):
        for j, second in enumerate(across):
            cell = [
                trial.objective
                for row in rows
                if row.setting[keys[0]] == first and row.setting[keys[1]] == second
                for trial in row.trials
                if trial.objective is not None
            ]
            values[i, j] = np.mean(cell) if cell else np.nan
    figure = Figure(figsize=(1.6 + 1.1 * len(across), 1.4 + 0.7 * len(down)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        values, cmap="viridis" if space.objective.best == "max" else "viridis_r", aspect="auto"
    )
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(
                j, i, f"{value:.3g}", ha="center", va="center", bbox={"facecolor": "white", "alpha": 0.7}
            )
    axes.set_xticks(range(len(across)), [_label(value) for value in across], parse_math=False)
    axes.set_yticks(range(len(down)), [_label(value) for value in down], parse_math=False)
    axes.set_xlabel(keys[1])
    axes.set_ylabel(keys[0])
    figure.colorbar(image).set_label(space.objective.key, parse_math=False)
    return figure_url(figure)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
