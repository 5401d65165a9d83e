"""The benchmark of leaks runs every row, on small sets."""

from __future__ import annotations

from pathlib import Path

from benchmarks import audit
from benchmarks.tables import plain_table


def test_every_row_of_the_comparisons_is_measured_and_stands_in_the_table() -> None:
    rows = list(audit.speed(300, 40, 0.2))
    assert [row["benchmark"] for row in rows] == ["audit/frames", "audit/sounds"]
    assert all(row["ratio"] > 1 and row["pairs"] == 12_000 for row in rows)
    assert all(f"`{row['benchmark']}`" in plain_table(rows) for row in rows)


def test_of_unrelated_photographs_and_sounds_none_are_alike(varied_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr(audit, "STRETCHES", 20_000)
    frames, sounds = audit.false_frames(varied_dir / "photographs"), audit.false_sounds(varied_dir / "sounds")
    assert frames["ours"] == sounds["ours"] == 0
    assert frames["nearest"] > frames["limit"] and sounds["nearest"] > sounds["limit"]
