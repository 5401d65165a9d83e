"""`cacl doctor` tells what is there and what is missing, most of all where something is broken."""

from __future__ import annotations

import os
import re

import pytest

from cacl import __version__ as cacl_version
from tests.launch.tiny import cacl


def test_a_sound_installation(tmp_path):
    cache = tmp_path / "a/b"
    answer = cacl("doctor", env={**os.environ, "CACL_CACHE": str(cache)})
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = {line[9:29].strip(): line.split()[0] for line in answer.stdout.splitlines()}
    assert rows["torch"] == rows["DALI"] == rows["DeepSpeed"] == rows["Ray Tune"] == "ok"
    assert "gloo" in answer.stdout
    assert f"ok       cacl                 {cacl_version}" in answer.stdout
    for where in (os.getcwd(), "/dev/shm", str(cache)):
        assert re.search(rf" {re.escape(where)}, \d+\.\d GiB free$", answer.stdout, re.M), answer.stdout
    assert not cache.exists(), "it looks, and makes nothing"


def test_a_broken_library_is_a_line_and_exit_code_1(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open shared object file')")
    answer = cacl("doctor", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert answer.returncode == 1, answer.stderr
    assert "BROKEN   torch                libtorch.so: cannot open" in answer.stdout
    assert "ok       numpy" in answer.stdout and "Traceback" not in answer.stderr


def test_programs_that_are_missing_name_what_needs_them(tmp_path):
    answer = cacl("doctor", env={**os.environ, "PATH": str(tmp_path)})
    assert answer.returncode == 0
    assert "none     sbatch               not on this machine; cacl submit needs it" in answer.stdout


@pytest.mark.slow
def test_a_bench_prints_a_line_for_each_thing_it_measures():
    answer = cacl("doctor", "--bench", "--quick", env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert answer.returncode == 0, answer.stderr
    kinds = {line.partition("/")[0] for line in answer.stdout.splitlines()}
    assert kinds == {"device", "step", "loss", "decode", "evaluate"}, answer.stdout
