"""The wheel works outside the checkout: verbs, recipes, spaces, job scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MADE_OF = ["cacl", "shards", "launch", "slurm", "pyproject.toml", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone is installed; its dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in MADE_OF:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / "source")
    python = [sys.executable, "-m"]
    build: list[str | Path] = [*python, "build", "--wheel", "--outdir", folder / "dist", folder / "source"]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    install: list[str | Path] = [
        *python,
        "pip",
        "install",
        "--no-deps",
        "--target",
        folder / "installed",
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "installed"


def cacl(installed: Path, *words: str | Path) -> str:
    """Run the installed cacl far from the checkout."""
    program = "import sys; from launch.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_recipes_spaces_and_scripts_come_along(installed: Path) -> None:
    for folder, pattern in (("launch/recipes", "*.yaml"), ("launch/spaces", "*.yaml"), ("slurm", "*.sbatch")):
        expected = {path.name for path in (ROOT / folder).glob(pattern)}
        assert {path.name for path in (installed / folder).glob(pattern)} == expected != set()
    assert (installed / "slurm/site.sh").exists() and (installed / "slurm/job.sh").exists()
    assert (installed / "launch/sweeping/report.html.j2").exists()
    assert (installed / "cacl/py.typed").exists()


@pytest.mark.slow
def test_the_installed_package_is_the_one_that_runs(installed: Path) -> None:
    assert "temperature: 0.07" in cacl(installed, "config", "demo")
    printed = cacl(installed, "submit", "train", "demo", "--gpus-per-node", "2", "--dry-run")
    assert f"{installed}/slurm/train.sbatch" in printed
