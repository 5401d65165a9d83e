"""The studies in miniature run from packing to page, and what is done is not done again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def study(name: str, tmp_path: Path) -> str:
    """Run a study on a few generated clips and return what it printed."""
    words = ["--source", "generated", "--clips", "240", "--test-clips", "24", "--seeds", "0"]
    folders = ["--folder", str(tmp_path / "runs"), "--docs", str(tmp_path)]
    command = [sys.executable, "-m", f"benchmarks.{name}", *words, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def test_both_studies_end_in_their_pages_and_share_trainings(tmp_path: Path):
    (tmp_path / "labels.md").write_text("before\n<!-- study -->\n<!-- end of study -->\nafter\n")
    study("label_study", tmp_path)
    page = (tmp_path / "labels.md").read_text()
    assert page.startswith("before") and page.rstrip().endswith("after")
    record = json.loads((tmp_path / "labels.json").read_text())
    for level in record["levels"].values():
        assert {"none", "strong", "sound", "fused", "true"} <= set(level["metric"])
        assert level["quality"]["true"]["pair_f1"] == 1.0
    trained = {path: path.stat().st_mtime for path in (tmp_path / "runs/runs").rglob("study.json")}
    study("reproduce", tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    assert len(record["sweep"]) == 2
    assert (tmp_path / "results.md").read_text().count("\n| SLAVC |") == 3
    # A run measured from cached features agrees with `cacl evaluate` on its frames, to float16's rounding.
    run = tmp_path / "runs/runs/two-object/slavc-none-milder/0/metrics.json"
    cached = json.loads(run.read_text())["evaluations"]["stamps"]["model"]["pixel_ap"]
    assert record["baselines"]["stamps"]["model"]["pixel_ap"] == pytest.approx(cached, abs=0.01)
    assert all(path.stat().st_mtime == moment for path, moment in trained.items())
