"""With --json a verb prints one JSON document on standard output, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cacl
from launch.as_json import as_json
from launch.main import main
from tests.launch.tiny import write_recipe


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("json")
    cacl.train(write_recipe(folder, data), folder / "run", max_steps=2)
    return folder / "run"


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


def test_figures_of_runs_and_shards_are_json(run, data, capsys):
    assert printed(["runs", str(run.parent), "--json"], capsys)[str(run)]["step"] == 2
    assert printed(["runs", "--compare", str(run), "--json"], capsys)["run"]["data.train"] == str(data)
    info = printed(["shards", "info", str(data), "--json"], capsys)
    assert (info["clips"], info["shards"], info["rejected"]) == (72, 12, {})
    assert printed(["shards", "verify", str(data), "--json"], capsys)["faults"] == []
    audit = printed(["shards", "audit", str(data), "--against", str(data), "--by", "names", "--json"], capsys)
    assert audit["training"] == 72 and audit["findings"][0]["itself"] is True


def test_figures_of_measurements_are_json(tmp_path, capsys):
    boxes = [{"file": f"clip{k}", "class": "dog", "bbox": [[0.2, 0.2, 0.7, 0.9]]} for k in range(3)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    maps = np.random.default_rng(0).normal(size=(3, 7, 7))
    np.savez(tmp_path / "maps.npz", maps=maps, id=np.array([str(one["file"]) for one in boxes]))
    out = tmp_path / "out"
    words = ["--predictions", str(tmp_path / "maps.npz"), "--boxes", str(tmp_path / "boxes.json")]
    record = printed(["evaluate", *words, "--protocol", "boxes", "--out", str(out), "--json"], capsys)
    kept = json.loads((out / "metrics.json").read_text())
    assert record["model"] == kept["model"] and record["n"] == 3


def test_the_doctors_findings_are_json(capsys, monkeypatch):
    monkeypatch.setattr("launch.jobs.doctor.EXTRAS", [])  # to import them all takes seconds
    found = printed(["doctor", "--json"], capsys)
    assert found["broken"] == [] and {"Python", "torch"} <= {one["name"] for one in found["findings"]}


def test_faults_are_json_too_and_the_exit_code_says_so(data, tmp_path, capsys):
    import shutil

    copy = shutil.copytree(data, tmp_path / "copy")
    tar = sorted(copy.glob("*.tar"))[0]
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 255
    tar.write_bytes(content)
    assert main(["shards", "verify", str(copy), "--json"]) == 2
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["faults"]) >= 1 and "faults, named above" in shown.err


def test_what_json_lacks_is_plain():
    @dataclass
    class Found:
        path: Path
        value: float

    values = {"one": Found(Path("a/b"), float("nan")), 2: (1.5, float("inf"))}
    assert json.loads(as_json(values)) == {"one": {"path": "a/b", "value": None}, "2": [1.5, None]}
