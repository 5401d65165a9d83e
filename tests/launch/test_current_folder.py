"""Nothing that lies in the current folder is run, unless the user names its file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cacl.errors import UserError
from cacl.labels.tag import load_tagger

ROOT = Path(__file__).parents[2]
PLANTED = "import pathlib; pathlib.Path('RUN').write_text(__file__); raise SystemExit(7)\n"


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A downloaded folder with modules of well-known names."""
    for name in ("torch", "numpy", "json", "cacl", "webdataset", "pickle"):
        (tmp_path / f"{name}.py").write_text(PLANTED)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [["doctor"], ["config", "demo"], ["train", "demo", "--nproc-per-node", "2"], ["pack", "generated"]],
    ids=" ".join,
)
def test_modules_of_the_current_folder_are_not_run(words, planted: Path):
    if words[0] == "pack":
        words = [*words, "--clips", "2", "--workers", "2", "--frame-side", "32", "--out", "clips"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "launch.main", *words]
    done = subprocess.run(command, cwd=planted, env=environment, capture_output=True, text=True, check=False)
    assert not (planted / "RUN").exists(), done.stderr
    # The demo's clips are not here: that it gets as far as saying so shows that the ranks' modules were found.
    assert done.returncode == (2 if words[0] == "train" else 0), done.stderr


def test_a_tagger_of_the_current_folder_is_run_only_by_the_name_of_its_file(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neighbor.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "mine.py").write_text(
        "from neighbor import FACTOR\n\ndef tagger(rate):\n    return lambda sounds: sounds[:, :3] * FACTOR\n"
    )
    tagger = load_tagger("./mine.py:tagger", 8000, 100, torch.device("cpu"))
    assert tagger(torch.ones(2, 100)).tolist() == [[2.0] * 3] * 2
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    with pytest.raises(UserError, match=r"expected \./FILE\.py:FUNCTION, or MODULE:FUNCTION of an installed"):
        load_tagger("mine:tagger", 8000, 100, torch.device("cpu"))
    with pytest.raises(UserError, match=r"\./absent\.py"):
        load_tagger("./absent.py:tagger", 8000, 100, torch.device("cpu"))
