"""`cacl runs` shows what runs have come to and in what they differ."""

from __future__ import annotations

import pytest

from cacl.runs.directory import Run
from launch.main import main
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import train_rank, write_recipe


def test_runs_are_listed_and_laid_side_by_side(tmp_path, data, capsys):
    recipe = str(write_recipe(tmp_path, data))
    for name, rate in (("slow", "1e-4"), ("fast", "1e-3")):
        options = {"max_steps": 2, "overrides": ["--optimizer.learning-rate", rate]}
        run_ranks(1, train_rank, recipe, str(tmp_path / "runs" / name), options)
    assert main(["runs", str(tmp_path / "runs")]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 3 and listed[0].startswith("run")
    assert [line.split()[0].rpartition("/")[2] for line in listed[1:]] == ["fast", "slow"], "newest first"
    last = Run(tmp_path / "runs" / "fast").records()[-1]
    assert listed[1].split()[1:4] == ["2", f"{last['loss']:.4g}", "1"], "the last step's numbers"
    assert main(["runs", "--compare", str(tmp_path / "runs" / "slow"), str(tmp_path / "runs" / "fast")]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["optimizer.learning_rate"] == ["0.0001", "0.001"]
    assert "training.seed" not in rows and rows["loss"][0] != rows["loss"][1]


def test_runs_of_one_name_keep_their_columns_and_no_two_values_run_together(tmp_path, capsys):
    for place, train in (("first", "data/a-long-name/of/packed/clips"), ("second", "data/another/long-name")):
        recipe = {"data": {"train": train}, "loss": {"memory_mib": 128 if place == "first" else 128.0}}
        Run(tmp_path / place / "run").create(recipe, {})
    folders = [str(tmp_path / place / "run") for place in ("first", "second")]
    assert main(["runs", "--compare", *folders]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["first/run", "second/run"]
    assert [row.split() for row in rows] == [
        ["data.train", "data/a-long-name/of/packed/clips", "data/another/long-name"]
    ]
    assert main(["runs", "--compare", folders[0], f"{folders[0]}/"]) == 2
    assert "named twice" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["runs"], ["runs", "--compare"]])
def test_no_run_is_one_sentence(tmp_path, words, capsys):
    assert main([*words, str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
