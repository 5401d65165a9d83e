"""The benchmark of large sets runs every row, on small ones, through what the verbs call."""

from __future__ import annotations

import pytest

from benchmarks import growth
from benchmarks.tables import growth_table
from cacl.evaluation import results
from cacl.runs.directory import Run
from launch.jobs.audit import audit

CLIPS, STEPS = 250, 2000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_row_is_measured_and_stands_in_the_table(tmp_path):
    growth.make_shards(tmp_path / "shards", CLIPS)
    growth.make_log(tmp_path / "runs/first", STEPS)
    rows = []
    for name in growth.ROWS:
        if name == "compare":
            growth.make_rival(tmp_path / "runs")
        rows.append(growth.run_row(name, tmp_path, CLIPS, STEPS))
    table = growth_table(rows)
    assert all(f"`growth/{name}`" in table for name in growth.ROWS)
    assert all(row["peak_mb"] > row["above_mb"] >= 0 for row in rows)
    assert len(results.read_clips(tmp_path / "runs/first", "vggss")["model"]) == CLIPS
    assert f"Of {STEPS:,} points of a line" in (tmp_path / "runs/first/report.html").read_text()
    assert next(Run(tmp_path / "runs/first").newest_first("loss"))["step"] == STEPS - 500
    found = audit(tmp_path / "shards", [tmp_path / "shards/tested.txt"])
    assert len(found.findings[0].leak["clip"].training) == found.findings[0].clips == CLIPS
