"""`python -m benchmarks.gpu` measures, predicts and writes its page; kernels of others end no run of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import gpu
from launch.jobs.timing import QUICK

ROOT = Path(__file__).parents[2]


def test_a_quick_bench_on_a_processor_gives_rows_and_a_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- rows: written by benchmarks.gpu -->\nan earlier table\n<!-- end of the rows -->\nafter\n"
    )
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--json"]
    command += ["--only", "loss,rivals", "--write", str(page)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    head, *rows = map(json.loads, answer.stdout.splitlines())
    found = {row["benchmark"]: row for row in rows}
    assert head["card"] == "processor" and len(found) == len(rows)
    assert all(row["ours"] is None and row["why"] == "no GPU" for row in rows if "flash" in row["benchmark"])
    for n in QUICK.losses:
        full, ours = found[f"loss/full-tensor/N={n}"], found[f"loss/torch/N={n}"]
        assert math.isclose(full["loss"], ours["loss"], rel_tol=1e-5), "one loss, computed in two ways"
        assert full["predicted"] == ours["predicted"] > 0
    before, *table, after = page.read_text().splitlines()
    assert (before, after) == ("before", "after") and "an earlier table" not in table
    assert all(any(name in line for line in table) for name in found)


def test_a_kernel_of_others_that_fails_is_a_row_with_its_reason(monkeypatch):
    """Here for want of a GPU, which its process finds out."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(gpu, "RIVALS", {"flash-maxsim": ("json", lambda maps, sounds: maps)})
    first = next(gpu.rivals(torch.device("cuda", 0), QUICK))
    assert first.name == "loss/flash-maxsim/float32/N=32" and first.value is None
    assert "Error" in first.more["why"] and "\n" not in first.more["why"]
