"""The report of a sweep says how sure it is, and at how much training its settings are compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cacl.options import parse
from cacl.runs.directory import Run
from launch.sweeping.report import read_results, trial_folder, write_report
from launch.sweeping.space import FINISHED, STOPPED, Space

KEY = "training.global_batch_size"


def sweep(out: Path, scores: dict[int, list[list[float]]]) -> Space:
    """Write the trials of a sweep over batch sizes: of each its seeds, of each seed a score every 10 steps."""
    seeds = list(range(len(next(iter(scores.values())))))
    space = parse(Space, {"vary": {KEY: list(scores)}, "stop": {"name": "never"}, "seeds": seeds}, "space")
    for size, runs in scores.items():
        for seed, reached in enumerate(runs):
            run = Run(trial_folder(out, {KEY: size}, seed))
            run.create({"training": {"global_batch_size": size}}, {})
            for number, score in enumerate(reached, 1):
                run.log({"step": 10 * number, "loss": 1.0})
                run.log({"step": 10 * number, "validation": {"recall_at_1": score}})
            (run.folder / FINISHED).touch()
    return space


def written(out: Path, space: Space) -> str:
    rows = read_results(out, space, [{KEY: size} for size in space.vary[KEY]])  # type: ignore[union-attr]
    return write_report(out, space, rows, "demo").read_text()


def test_two_seeds_have_no_interval_and_three_have_one_within_0_and_1(tmp_path):
    two, three = tmp_path / "two", tmp_path / "three"
    space = sweep(two, {4: [[0.3], [0.9]], 8: [[0.1], [0.2]]})
    page = written(two, space)
    assert page.count('class="interval">–<') == 2 and "none with fewer than 3 seeds" in page
    space = sweep(three, {4: [[0.6], [0.9], [0.99]], 8: [[0.1], [0.2], [0.15]]})
    page = written(three, space)
    found = re.findall(r'class="interval">([\d.]+) – ([\d.]+)<', page)
    assert len(found) == 2 and found[0][1] == "1.0000" and "none with fewer" not in page
    (low, high) = map(float, found[1])
    assert (low + high) / 2 == pytest.approx(0.15) and high - low == pytest.approx(
        2 * 4.3027 * 0.05 / 3**0.5, 1e-3
    )


def test_settings_of_other_batches_are_drawn_over_the_clips_that_they_have_seen(tmp_path):
    space = sweep(tmp_path, {4: [[0.1, 0.3], [0.3, 0.5]], 8: [[0.2, 0.3, 0.4], [0.2, 0.3, 0.4]]})
    page = written(tmp_path, space)
    assert "between 80 and 240 clips" in page and "20 steps, 80 clips, 0.5000" in page
    assert "clips seen" in page and len(re.findall("<polyline", page)) == 2
    equal = sweep(tmp_path / "equal", {4: [[0.1, 0.2]], 8: [[0.3]]})
    assert "have seen between" not in written(tmp_path / "equal", equal)


def test_a_trial_that_has_not_begun_and_one_that_was_stopped_are_told_apart(tmp_path):
    space = sweep(tmp_path, {4: [[]], 8: [[0.3]]})
    for size, marks in ((4, ()), (8, (STOPPED,))):
        folder = trial_folder(tmp_path, {KEY: size}, 0)
        (folder / FINISHED).unlink()
        for mark in marks:
            (folder / mark).touch()
    page = written(tmp_path, space)
    assert (
        "seed 0: unfinished, 0 steps, 0 clips" in page and "seed 0: stopped, 10 steps, 80 clips, 0.3" in page
    )
