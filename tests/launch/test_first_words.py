"""What is said before anything is loaded: refusals without PyTorch, and the word that was probably meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch.main import main
from tests.launch.tiny import write_recipe

EARLY = """
import contextlib, json, sys
from launch.main import main
loaded = {}
for line in sys.argv[1:]:
    with contextlib.suppress(SystemExit):
        main(line.split())
    loaded[line] = sorted({"torch", "scipy.signal", "timm", "pyarrow"} & set(sys.modules))
print(json.dumps(loaded))
"""


def test_what_needs_no_data_is_said_without_torch(tmp_path):
    """So it takes a fraction of a second: lists, versions, and every refusal of names that are not there."""
    lines = [
        "--version",
        "trian",
        "runs",
        "submit status",
        "submit train demo --nodes 0 --dry-run",
        "train nothing",
        "train demo --run-dri x",
        "train x/demo.yaml",
        "evaluate",
        "evaluate --run nothing",
        "evaluate --model tags --data nothing --out x",
        "label nothing",
        "labels cluster nothing",
        "labels report a --data nothing",
        "labels relabel a --data nothing --run x",
        "calibrate --run nothing",
        "export --run nothing",
        "report --run nothing",
        "compare one two",
        "shards info nothing",
        "shards verify nothing --worker 2",
        "pack vgsound --root x --out y",
    ]
    (tmp_path / "runs" / "one").mkdir(parents=True)
    write_recipe(tmp_path / "runs" / "one", Path("data")).rename(tmp_path / "runs" / "one" / "recipe.yaml")
    answer = subprocess.run(
        [sys.executable, "-c", EARLY, *lines], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = json.loads(answer.stdout.splitlines()[-1])
    assert loaded == {line: [] for line in lines}
    assert answer.stdout.count("runs/one") == 1, "the list was printed"
    assert answer.stderr.count("\n") == len(lines) - 2, "all but --version and the list are one sentence"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("trian", "there is no verb 'trian'; did you mean train?"),
        ("train demoo", "did you mean demo?"),
        ("train elsewhere/demo.yaml", "give the path of a recipe, or the name of the one that comes with cacl: demo"),
        ("train demo --run-dri x", "unknown argument --run-dri; did you mean --run-dir?"),
        ("runs --compre a", "unknown argument --compre; did you mean --compare?"),
        ("shards verfy x", "did you mean verify?"),
        ("config demo --optimizr.learning-rate 1", "optimizr: unknown key; did you mean optimizer?"),
        ("config demo --optimizer.lerning-rate 1", "lerning_rate: unknown key; did you mean learning_rate?"),
        ("config demo --model.image.strid 16", "model.image.strid: unknown key; did you mean stride?"),
        ("config demo --loss.similarity atention", "there is no 'atention'; did you mean attention?"),
        ("config demo --loss.similarity xyz", "there is no 'xyz'; choose one of "),
        ("config demo --data.xyzzy 1", "data.xyzzy: unknown key (remove it or correct its spelling)"),
    ],
)  # fmt: skip
def test_a_mistyped_word_is_answered_by_the_nearest_one(line, sentence, capsys):
    try:
        assert main(line.split()) == 2
    except SystemExit as end:  # argparse's own way
        assert end.code == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_a_sweep_takes_no_overrides_and_says_so(capsys):
    """Its trials are set by the space: an override would be lost on the way to the cluster."""
    with pytest.raises(SystemExit) as end:
        main(["submit", "sweep", "demo", "--space", "temperature", "--dry-run", "--training.epochs", "3"])
    assert end.value.code == 2 and "unknown argument --training.epochs" in capsys.readouterr().err
