"""What runs have come to."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cacl.errors import Remark, UserError
from cacl.files import read_json
from cacl.runs.directory import Run
from launch.jobs.changes import flat


def list_runs(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Return the outcome of every run below a folder by its path, newest first.

    Raises UserError if there is none.
    """
    found = sorted(Path(folder).glob("**/recipe.yaml"), key=lambda path: -path.stat().st_mtime)
    if not found:
        raise UserError(f"{folder}: holds no run; train one with: cacl train RECIPE")
    return {str(path.parent): outcome(Run(path.parent)) for path in found}


def lay_side_by_side(folders: Sequence[str | Path]) -> dict[str, dict[str, Any]]:
    """Return every run's recipe and outcome by its path below what all share, one value a dotted key.

    Raises UserError for a run that is named twice.
    """
    runs = {Path(folder).resolve(): Run(folder) for folder in folders}
    if len(runs) < len(folders):
        raise UserError("--compare: a run is named twice; name others")
    shared = os.path.commonpath([folder.parent for folder in runs])
    return {
        str(folder.relative_to(shared)): flat(run.recipe()) | outcome(run) for folder, run in runs.items()
    }


def outcome(run: Run) -> dict[str, Any]:
    """Return what a run has come to: last step, loss, speed, and if it has them validation and evaluation."""
    last: dict[str, Any] = next(run.newest_first("loss"), {})
    measured: dict[str, Any] = next(run.newest_first("validation"), {}).get("validation", {})
    result = {name: last.get(name) for name in ("step", "loss", "world_size", "clips_per_second")}
    result["state"] = "to be resumed" if run.requeue_file.exists() else ""
    result |= {f"validation.{name}": value for name, value in measured.items() if name != "clips"}
    summary = run.folder / "metrics.json"
    if summary.exists():
        result |= measured_by_evaluation(summary)
    return result


def measured_by_evaluation(summary: Path) -> dict[str, Any]:
    """Return the newest evaluation's figures; none, and a warning, where its file is damaged."""
    try:
        metrics = read_json(summary, "evaluate again")
        evaluation = metrics.get("name", metrics.get("protocol"))
        return {f"{evaluation}.{name}": value for name, value in metrics["model"].items()}
    except UserError as error:
        warnings.warn(str(error), Remark, 2)
    except (KeyError, AttributeError):
        warnings.warn(f"{summary}: is damaged (it lacks a model's figures); evaluate again", Remark, 2)
    return {}
