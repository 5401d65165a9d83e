"""The job scripts are thin: plain to read, clean to shellcheck, one `srun` at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import HERE, SCRIPTS

JOBS = sorted(SCRIPTS.glob("*.sbatch"))


def test_shellcheck_finds_nothing() -> None:
    files = [*JOBS, *SCRIPTS.glob("*.sh"), *HERE.glob("*.sh")]
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, "-x", *files], capture_output=True, text=True, cwd=SCRIPTS.parent)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", JOBS)
def test_each_script_ends_in_its_one_srun(script: Path) -> None:
    text = script.read_text().replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert [line for line in commands if line.startswith("srun ")] == commands[-1:]
    assert len(commands) < 12, "a job script stays thin"


@pytest.mark.parametrize("script", JOBS)
def test_each_script_says_how_it_is_submitted(script: Path) -> None:
    head = "\n".join(line for line in script.read_text().splitlines() if line.startswith("# "))
    assert f"slurm/{script.name}" in head and "sbatch" in head
